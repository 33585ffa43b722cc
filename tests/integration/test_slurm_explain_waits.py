"""``hpcrun explain`` of runs that wait on the real cluster: each reason, and what helps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.support import Document, Login
from tests.integration.test_slurm_explain import explained, text
from tests.integration.test_slurm_states import fill_the_cluster

pytestmark = pytest.mark.cluster


@pytest.fixture
def admin(login: Login) -> Iterator[Login]:
    """What reset() does not undo is undone: partitions, reservations, QOS."""
    yield login
    for argv in (
        ["scontrol", "update", "partitionname=short", "state=up"],
        ["scontrol", "delete", "reservationname=later"],
        ["sacctmgr", "-i", "modify", "qos", "high", "set", "MaxTRESPerUser=cpu=-1", "GrpJobs=-1"],
        ["sacctmgr", "-i", "modify", "account", "lab", "set", "GrpTRES=node=-1"],
    ):
        login.cluster.run("ctl", argv, user="root", check=False)


def until_waiting(login: Login, run: Document, reason: str) -> Document:
    """Wait until squeue gives that reason; what is said then."""

    def given() -> bool:
        return bool(login.show(run)["reason"].startswith(reason))

    login.cluster.wait_for(given, 30, f"{run['id']} to wait for {reason}")
    return explained(login, run)


CASES = [
    ("BeginTime", [], {"sbatch": {"begin": "now+1hour"}}, "not to start yet"),
    ("Dependency", [], {"sbatch": {"dependency": "afterok:{bob}"}}, "waits for another job"),
    (
        "DependencyNeverSatisfied",
        [["scancel", "{bob}"]],
        {"sbatch": {"dependency": "afterok:{bob}"}},
        "waits for a job that ended otherwise",
    ),
    ("JobHeldUser", [], {"sbatch": {"hold": True}}, "held, by you"),
    ("PartitionTimeLimit", [], {"partition": "short", "time": "20m"}, "more time than its partition allows"),
    (
        "PartitionDown",
        [["scontrol", "update", "partitionname=short", "state=down"]],
        {"partition": "short", "time": "1m"},
        "partition is down",
    ),
    (
        "Reservation",
        [["scontrol", "create", "reservationname=later", "starttime=now+1hour", "duration=60",
          "users=alice", "nodes=node1"]],
        {"reservation": "later"},
        "its reservation to begin",
    ),
    (
        "QOSMaxCpuPerUserLimit",
        [["sacctmgr", "-i", "modify", "qos", "high", "set", "MaxTRESPerUser=cpu=1"]],
        {"qos": "high", "cpus_per_task": 2},
        "limit of CPUs that its QOS sets for one user",
    ),
    (
        "QOSGrpJobsLimit",
        [["sacctmgr", "-i", "modify", "qos", "high", "set", "GrpJobs=0"]],
        {"qos": "high"},
        "All jobs of its QOS together have reached its limit of running jobs",
    ),
    (
        "AssocGrpNodeLimit",
        [["sacctmgr", "-i", "modify", "account", "lab", "set", "GrpTRES=node=1"]],
        {"nodes": 2},
        "All jobs of your account together have reached its limit of nodes",
    ),
    (
        "ReqNodeNotAvail",
        [["scontrol", "update", "nodename=node1", "state=drain", "reason=broken"]],
        {"sbatch": {"nodelist": "node1"}},
        "down, drained, reserved",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "before", "resources", "words"), CASES, ids=[c[0] for c in CASES])
def test_a_reason(
    reason: str, before: list[list[str]], resources: Document, words: str, admin: Login
) -> None:
    """A real run that really waits for it."""
    login = admin
    login.add_site("open", partitions={"short": {"max_time": "1d"}})  # so that hpcrun lets it pass
    bob = ["sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap=sleep 600"]
    job = login.cluster.run("login", bob, user="bob").stdout.strip()
    for argv in before:
        login.cluster.run("ctl", [word.format(bob=job) for word in argv], user="root")
    if "sbatch" in resources:
        options = {
            key: str(v).format(bob=job) if v is not True else v for key, v in resources["sbatch"].items()
        }
        resources = {**resources, "sbatch": options}
    run = login.submit({"command": "true", "resources": resources}, "-t", "open")
    why = until_waiting(login, run, reason)
    assert (why["cause"], why["state"]) == ("Waiting", "Queued")
    assert words in why["words"]


def test_a_partition_that_starts_nothing(admin: Login) -> None:
    """Slurm refuses a job for it at once; what there is, and how it is, is named."""
    login = admin
    inactive = ["scontrol", "update", "partitionname=short", "state=inactive"]
    login.cluster.run("ctl", inactive, user="root")
    refused = login.hpcrun("run", "-t", "virtual", "-p", "short", "--", "true", check=False)
    assert refused.returncode == 6
    assert "short (time 00:10:00, 3 nodes, INACTIVE)" in login.json("explain", "@-1")["next"][0]


def test_when_slurm_expects_it_to_start(login: Login) -> None:
    """Behind bob's job, which may take ten minutes; what would start it sooner, from what the site has."""
    fill_the_cluster(login)
    config = {"command": "true", "resources": {"nodes": 2, "time": "1h", "gpus_per_node": 1}}
    run = login.submit(config)
    seen: list[Document] = []

    def expected() -> bool:
        seen[:] = [login.show(run)]
        return bool(seen[0]["expected_start"])

    login.cluster.wait_for(expected, 60, "an estimate of Slurm's")
    assert seen[0]["started"] is None
    told = login.slurm("squeue", "--start", "--noheader", f"--jobs={run['job_id']}", "--format=%S").strip()
    assert seen[0]["expected_start"].removesuffix("Z")[:13] == told[:13]
    shown = login.hpcrun("show", run["id"]).stdout
    assert "start       expected at " in shown and "(in " in shown
    why = explained(login, run)
    assert "Slurm expects it to start at " in why["words"] and "(in " in why["words"]
    help_ = text(why["next"])
    assert "Ask for less time than 1h (--time)" in help_
    assert "Ask for fewer nodes than 2 (--nodes)" in help_
    assert "Ask for fewer GPUs" not in help_
    assert "Others that would take a shorter run: short with --time 00:10:00 or less." in help_


def test_a_run_that_waits_behind_another(login: Login) -> None:
    """Priority: the first in line is what it waits for; another partition would take it as it is."""
    fill_the_cluster(login)
    first = login.submit({"command": "true", "resources": {"nodes": 3, "exclusive": True}})
    login.until_state(first, "Queued", "Resources")
    run = login.submit({"command": "true", "resources": {"time": "5m"}})
    why = until_waiting(login, run, "Priority")
    assert "Jobs of a higher priority go first." in why["words"]
    assert "take it as it is: short (at most 10m); submit with -p NAME." in text(why["next"])
