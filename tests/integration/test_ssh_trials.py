"""Trials on a site that is reached by SSH: a few commands there, however many they are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.ssh_laptop import Laptop, laptop_of

pytestmark = pytest.mark.cluster

PROGRAM = """\
import json, sys
from hpcrun import ScriptRunConfig, Workspace
from hpcrun.engine.trials import Trial, submit_trials
from hpcrun.errors import HpcrunError
from hpcrun.history.record import RunRecord, new_run_id

waits, limit = json.loads(sys.argv[1])
ws = Workspace.from_config()
history = ws.history
known = [row.id for row in history.list(limit=None) if row.type == "sweep"]
if known:
    [parent] = known
else:
    record = RunRecord(id=new_run_id("exp"), experiment="exp", type="sweep", target="far", scheduler="slurm")
    parent = history.create(record)[0].id
config = ScriptRunConfig("src", "train.sh", compute_target="far")
trials = [Trial(n, {"rate": n, "kind": "wait" if n == waits else "go"}, f"{parent}/{n}") for n in range(5)]
try:
    print(json.dumps(submit_trials(history, ws.targets, config, trials, parent=parent, experiment="exp",
                                   limit=limit, tags={})))
except HpcrunError as error:
    print(type(error).__name__, error)
"""

TRAIN = """\
echo "$HPCRUN_RUN_ID" >>/home/alice/starts
echo "args: $*"
echo "$2" >outputs/rate.txt
while [ "$4" = wait ]; do sleep 0.1; done
"""

CUT = """\
import os
import hpcrun.schedulers.slurmremote as remote
def die(*more): os.kill(os.getpid(), 9)
old = remote.RemoteSlurmScheduler.submit
remote.RemoteSlurmScheduler.submit = lambda *more: die(old(*more))
"""


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    for found in laptop_of(cluster, tmp_path, monkeypatch):
        (found.source / "train.sh").write_text(TRAIN)
        yield found


def submit(
    laptop: Laptop, before: str = "", *, waits: int = 4, limit: int | None = None
) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", before + PROGRAM, json.dumps([waits, limit])]
    return subprocess.run(
        argv, cwd=laptop.project, env=laptop.environment(), capture_output=True, text=True, timeout=180
    )


def starts(laptop: Laptop) -> list[str]:
    file = laptop.cluster.home() / "starts"
    return sorted(file.read_text().split()) if file.exists() else []


def test_trials_from_outside(laptop: Laptop) -> None:
    """They run, and come home; one that is canceled before it has a folder there, too; and are deleted."""
    ids = json.loads(submit(laptop).stdout)
    shown = laptop.json("show", ids[0])
    assert shown["job_id"].endswith("_0") and "args" not in json.dumps(shown["config"].get("settings", {}))
    laptop.until({"id": ids[4]}, "Running")
    laptop.hpcrun("cancel", ids[4])
    ended = laptop.json("wait", *ids, check=False)["runs"]
    assert [run["state"] for run in ended] == ["Completed"] * 4 + ["Canceled"]
    laptop.hpcrun("sync", *ids)
    for number, run_id in enumerate(ids[:4]):
        home = laptop.project / ".hpcrun/runs" / run_id
        assert (home / "outputs/rate.txt").read_text() == f"{number}\n"
        assert (home / "user_logs/std_log.txt").read_text() == f"args: --rate {number} --kind go\n"
        assert f"attempt 1 of {run_id} as job" in (home / "system_logs/job.txt").read_text()
        assert (home / "job.sh").read_text() == laptop.cluster.run(
            "login", ["cat", f"/home/alice/hpc/runs/{run_id}/job.sh"]
        ).stdout
    assert starts(laptop) == sorted(ids)
    assert laptop.json("history", "verify")["findings"] == []
    again = laptop.json("rerun", ids[1], "--wait")
    assert again["state"] == "Completed"
    array = f"/home/alice/hpc/arrays/{ids[0]}"
    laptop.hpcrun("archive", *ids[:4])
    laptop.hpcrun("history", "gc", "--runs", "--yes")
    assert laptop.cluster.run("login", ["test", "-e", f"{array}/job.sh"], check=False).returncode == 0
    laptop.hpcrun("archive", ids[4])
    laptop.hpcrun("history", "gc", "--runs", "--yes")
    assert laptop.cluster.run("login", ["test", "-e", array], check=False).returncode == 1


def test_killed_with_the_answer(laptop: Laptop) -> None:
    """The answer lies there: whoever looks next finds it, and nothing is submitted twice."""
    done = submit(laptop, CUT)
    assert done.returncode == -9, done.stderr
    ids = json.loads(submit(laptop).stdout)
    laptop.cluster.wait_for(lambda: laptop.json("show", ids[0])["job_id"], 60, "the job to be found")
    laptop.until({"id": ids[4]}, "Running")
    laptop.hpcrun("cancel", ids[4])
    laptop.hpcrun("wait", *ids, check=False)
    assert starts(laptop) == sorted(ids)


def test_one_that_never_began(laptop: Laptop) -> None:
    """It has no folder there: nothing is lost with that, and it is deleted as any other."""
    ids = json.loads(submit(laptop, waits=0, limit=1).stdout)
    laptop.until({"id": ids[0]}, "Running")
    assert not (laptop.project / ".hpcrun/runs" / ids[2]).exists(), "nobody has looked at it"
    laptop.hpcrun("cancel", *reversed(ids))
    ended = laptop.json("wait", *ids, check=False)["runs"]
    assert [run["state"] for run in ended] == ["Canceled"] * 5
    laptop.hpcrun("sync", *ids)
    shown = [laptop.json("show", run_id) for run_id in ids]
    assert [(run["state"], run["message"]) for run in shown[1:]] == [("Canceled", "")] * 4
    assert starts(laptop) == [ids[0]]
    laptop.hpcrun("archive", *ids)
    laptop.hpcrun("history", "gc", "--runs", "--yes")
    there = laptop.cluster.run("login", ["sh", "-c", "ls ~/hpc/runs ~/hpc/arrays"]).stdout
    assert not any(run_id in there for run_id in ids)
