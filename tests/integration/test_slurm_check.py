"""``hpcrun check`` on the real cluster: what Slurm allows, who may use it, and when a run would start."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import pytest

from tests.cluster.cluster import Cluster
from tests.integration.support import SYSTEM_PYTHON, Document, Login
from tests.integration.test_slurm_states import fill_the_cluster

pytestmark = pytest.mark.cluster

PLAIN = {"python": {"interpreter_path": SYSTEM_PYTHON}}


def checked(login: Login, config: Document, *options: str, code: int = 0) -> Document:
    """The report on a configuration; the words people read tell the same findings."""
    project = f"{login.home}/project"
    file = login.write(f"{project}/run.yaml", json.dumps({"environment": PLAIN, **config}))
    target = [] if "-t" in options else ["-t", "virtual"]
    report: Document = login.json("check", file, *target, *options, check=False)
    done = login.hpcrun("check", file, *target, *options, check=False)
    assert done.returncode == code, done.stdout
    assert report["ok"] == (code == 0)
    for each in report["findings"]:
        assert each["code"] == "Start" or f"{each['code']}: " in done.stdout
        assert each["code"] == "Start" or each["message"] in done.stdout
    assert login.slurm("squeue", "--noheader", "--format=%j") in ("", "wrap\n")
    assert not login.exists(f"{project}/.hpcrun")
    return report


def of(report: Document, code: str) -> Document:
    """The one finding of a kind."""
    (found,) = [each for each in report["findings"] if each["code"] == code]
    return dict(found)


def codes(report: Document, level: str = "problem") -> list[str]:
    return [each["code"] for each in report["findings"] if each["level"] == level]


def starts(report: Document) -> datetime:
    return datetime.fromisoformat(report["start"]["at"].replace("Z", "+00:00"))


def test_a_start_on_a_free_cluster(login: Login) -> None:
    """Now, on so many nodes; the time is UTC whatever the zone of those who ask."""
    report = checked(login, {"command": "true", "resources": {"nodes": 2}})
    assert codes(report) == codes(report, "warning") == []
    assert report["start"]["nodes"] == "node[1-2]" and report["start"]["partition"] == "main"
    assert abs(starts(report) - datetime.now(timezone.utc)) < timedelta(minutes=10)
    project = f"{login.home}/project"
    shown = login.hpcrun("check", "run.yaml", "-t", "virtual", cwd=project, env={"TZ": "Asia/Tokyo"})
    assert "it would start at once on node" in shown.stdout
    there = login.json("check", "run.yaml", "-t", "virtual", cwd=project, env={"TZ": "Asia/Tokyo"})
    assert abs(starts(there) - datetime.now(timezone.utc)) < timedelta(minutes=10)


def test_a_start_on_a_busy_cluster(login: Login) -> None:
    """When bob's job of 10 minutes (the partition's default) is over."""
    fill_the_cluster(login)
    report = checked(login, {"command": "true"})
    left = starts(report) - datetime.now(timezone.utc)
    assert timedelta(minutes=5) < left < timedelta(minutes=15)
    shown = login.hpcrun("check", f"{login.home}/project/run.yaml", "-t", "virtual").stdout
    assert re.search(
        r"Start: as things stand it would start in \d+m.*, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, on node1", shown
    )


def test_over_what_slurm_allows_and_the_file_does_not_tell(login: Login) -> None:
    """Each limit of the partition as Slurm has it, what would take the run, and Slurm's own no."""
    login.add_site("bare", partitions=None, defaults=None)
    report = checked(login, {"command": "true"}, "-t", "bare", "-p", "short", "--time", "2h", code=3)
    assert codes(report) == ["Time"]
    found = of(report, "Time")
    assert (found["where"], found["path"]) == ("command line", "resources.time")
    assert "02:00:00" in found["message"] and "00:10:00" in found["message"]
    assert "a partition that takes it: main" in found["next"] and "preempt" not in found["next"]
    # The cluster does not enforce its limits: sbatch would take the job, and tell a start.
    assert report["start"] is None
    assert "may never start" in of(report, "Slurm")["message"]

    more = ["--nodes", "4", "--gpus-per-node", "fake:3", "--mem", "5G", "--set", "resources.cpus_per_task=5"]
    report = checked(login, {"command": "true"}, "-t", "bare", *more, code=3)
    assert codes(report) == ["Nodes", "CPUs", "Memory", "GPUs", "Slurm"]
    assert "4 nodes are more than partition main gives one run: 3" in of(report, "Nodes")["message"]
    assert "5 CPUs on a node are more than partition main has: 4" in of(report, "CPUs")["message"]
    assert "5G on a node are more than partition main has: 4000M" in of(report, "Memory")["message"]
    assert "3 GPUs on each node are more than partition main has: 2" in of(report, "GPUs")["message"]
    assert "node configuration is not available" in of(report, "Slurm")["message"]

    report = checked(login, {"command": "true"}, "-t", "bare", "--gpus-per-node", "a100:1", code=3)
    assert "no GPUs of type a100: it has fake" in of(report, "GPUs")["message"]
    assert of(report, "GPUs")["next"].startswith("--gpus-per-node fake:1")


def test_what_is_submitted_over_the_limit_does_wait_for_ever(login: Login) -> None:
    """That the note is true: Slurm queues it, for a reason that does not pass."""
    login.add_site("bare", partitions=None, defaults=None)
    run = login.submit({"command": "true", "environment": PLAIN}, "-t", "bare", "-p", "short", "--time", "2h")
    login.until_state(run, "Queued", "PartitionTimeLimit")


def test_a_cluster_that_enforces_its_limits(login: Login) -> None:
    """Slurm's own words come beside the numbers."""
    login.cluster.reconfigure({"EnforcePartLimits": "ALL"})
    report = checked(login, {"command": "true"}, "-p", "short", "--time", "2h", code=3)
    assert codes(report) == ["Time", "Slurm"]
    assert "Requested time limit is invalid" in of(report, "Slurm")["message"]


def test_the_sites_file_is_behind(login: Login) -> None:
    """Where Slurm allows more than the file, Slurm counts; submit goes by the file, and warns."""
    partitions = {"main": {"max_time": "1h"}, "short": {}}
    login.add_site("old", partitions=partitions)
    report = checked(login, {"command": "true"}, "-t", "old", "--time", "3h")
    assert "01:00:00" in of(report, "Description")["message"]
    assert report["start"] is not None
    file = f"{login.home}/project/run.yaml"
    done = login.hpcrun("submit", file, "-t", "old", "--time", "3h", "--dry-run")
    assert "hpcrun: warning: 03:00:00 is more than partition main allows: 01:00:00" in done.stderr


def test_a_partition_that_slurm_does_not_have(login: Login) -> None:
    """One that the site's file names, and one of a site whose file names none."""
    login.add_site("wishful", partitions={"mian": {}}, default_partition="mian")
    report = checked(login, {"command": "true"}, "-t", "wishful", code=3)
    found = of(report, "Partition")
    assert "no partition mian: did you mean main?" in found["message"]
    assert re.search(r"/wishful\.yaml:\d+:\d+$", found["where"])
    assert found["next"] == "There are: main, short, preempt"
    assert "invalid partition" in of(report, "Slurm")["message"].lower()


@contextmanager
def changed_partition(login: Login, **values: str) -> Iterator[None]:
    """The partition ``short`` with other settings."""
    usual = {"state": "up", "allowaccounts": "ALL", "allowqos": "ALL", "minnodes": "0"}

    def update(settings: dict[str, str]) -> None:
        changes = [f"{key}={value}" for key, value in settings.items()]
        login.cluster.run("ctl", ["scontrol", "update", "partition=short", *changes], user="root")

    update(values)
    try:
        yield
    finally:
        update({key: usual[key] for key in values})


def test_a_partition_that_is_down(login: Login) -> None:
    with changed_partition(login, state="down"):
        report = checked(login, {"command": "true"}, "-t", "virtual:short")
        assert "partition short is DOWN" in of(report, "Partition")["message"]


def test_a_partition_that_is_not_open_to_all(login: Login) -> None:
    """Closed to her account and to the QOS that was asked for, and to so few nodes."""
    with changed_partition(login, allowaccounts="other", allowqos="high", minnodes="2"):
        report = checked(login, {"command": "true"}, "-t", "virtual:short", "--qos", "normal", code=3)
    assert {"Account", "QOS", "Nodes"} <= set(codes(report))
    assert of(report, "Account")["message"] == "partition short is not open to account lab"
    assert of(report, "QOS")["next"] == "It takes: high"
    assert "2 at least" in of(report, "Nodes")["message"] and report["start"] is None


def test_an_account_and_a_qos_that_are_not_hers(login: Login) -> None:
    report = checked(login, {"command": "true"}, "-A", "lbb", "--qos", "hihg", code=3)
    assert sorted(codes(report)) == ["Account", "QOS", "Slurm"]
    account, qos = of(report, "Account"), of(report, "QOS")
    assert (account["path"], account["next"]) == ("resources.account", "alice's accounts: lab")
    assert "did you mean lab?" in account["message"]
    assert qos["path"] == "resources.qos" and "did you mean high?" in qos["message"]
    assert "Invalid account" in of(report, "Slurm")["message"]
    assert codes(checked(login, {"command": "true"}, "--qos", "high")) == []
    # An account of bob's
    assert "Account" in codes(checked(login, {"command": "true"}, "-A", "other", code=3))


def test_a_qos_with_limits_of_its_own(boot_cluster: Callable[..., Cluster]) -> None:
    """Its time limit, of which sbatch --test-only says nothing; and the partition's, which it may lift."""
    login = Login(boot_cluster(nodes=1))

    def set_qos(*changes: str) -> None:
        login.cluster.run("ctl", ["sacctmgr", "-i", "modify", "qos", "high", "set", *changes], user="root")

    set_qos("maxwall=5")
    report = checked(login, {"command": "true"}, "--qos", "high", "--time", "6m", code=3)
    assert codes(report) == ["Time"] and report["start"] is None
    assert of(report, "Time")["message"] == "00:06:00 is more than QOS high allows: 00:05:00"
    login.add_site("bare", partitions=None)
    over = ["-t", "bare", "-p", "short", "--qos", "high", "--time", "20m"]
    set_qos("maxwall=-1", "flags=DenyOnLimit")
    assert codes(checked(login, {"command": "true"}, *over, code=3)) == ["Time"]
    set_qos("flags=PartitionTimeLimit")
    assert codes(checked(login, {"command": "true"}, *over)) == []
    run = login.finish({"command": "true", "environment": PLAIN}, *over)
    assert run["state"] == "Completed"


def test_an_account_that_nobody_enforces(boot_cluster: Callable[..., Cluster]) -> None:
    """sbatch takes it: worth no more than a warning."""
    free = Login(boot_cluster(slurm_conf={"AccountingStorageEnforce": "nosteps"}))
    report = checked(free, {"command": "true"}, "-A", "lbb")
    assert codes(report, "warning") == ["Account"] and report["start"] is not None


def test_no_accounting(boot_cluster: Callable[..., Cluster]) -> None:
    bare = Login(boot_cluster(accounting=False, nodes=1))
    report = checked(bare, {"command": "true"}, "-A", "lab", "--qos", "high")
    assert codes(report, "warning") == []
    assert "account and QOS are not looked up" in of(report, "Unchecked")["message"]


@pytest.mark.slow
def test_an_older_slurm(boot_cluster: Callable[..., Cluster]) -> None:
    """22.05 says the same in its way."""
    old = Login(boot_cluster(slurm="bookworm", nodes=1))
    report = checked(old, {"command": "true"})
    assert report["start"]["nodes"] == "node1" and codes(report) == []
    report = checked(old, {"command": "true"}, "-t", "virtual:short", "--time", "2h", "-A", "lbb", code=3)
    assert sorted(codes(report)) == ["Account", "Slurm", "Time"]


def test_slurm_does_not_answer(login: Login) -> None:
    """The rest is checked all the same, and the file's limits count."""
    login.cluster.daemon("slurmctld").kill()
    report = checked_without_queue(login, "--time", "2d")
    assert report["start"] is None
    assert "Slurm" in codes(report, "warning") and codes(report) == ["Time"]


def checked_without_queue(login: Login, *options: str) -> Document:
    file = login.write(
        f"{login.home}/project/run.yaml", json.dumps({"command": "true", "environment": PLAIN})
    )
    return login.json("check", file, "-t", "virtual", *options, check=False)


def test_only_the_description(login: Login) -> None:
    """On a machine without Slurm's commands: what the file says, and a note that this was all."""
    login.cluster.hide("login", "/usr/bin/sbatch")
    report = checked_without_queue(login, "--time", "2d")
    assert codes(report) == ["Time"] and report["start"] is None
    assert "only what virtual's file says was checked" in of(report, "Unchecked")["message"]


def test_files_that_alice_may_not_read(login: Login) -> None:
    """A script, an image, and a file of the source that is none of hers."""
    project = login.project({"train.py": "print(1)\n", "x.sif": "", "secret.txt": "x"})
    for name in ("train.py", "x.sif", "secret.txt"):
        login.cluster.run("login", ["chmod", "0", f"{project}/{name}"])
    environment = {"apptainer": {"image": f"{project}/x.sif"}}
    report = checked(login, {"script": "train.py", "environment": environment}, code=3)
    assert set(codes(report)) == {"Script", "Environment", "Snapshot"}
    assert "train.py cannot be read: Permission denied" in of(report, "Script")["message"]
    assert "cannot be read" in of(report, "Environment")["message"]
    assert "cannot be read" in of(report, "Snapshot")["message"]
