"""Metrics, tags and children from jobs whose Python has no hpcrun: of two ranks, and from far away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcrun.metrics.reading import read_points
from tests.cluster.cluster import Cluster
from tests.integration.support import BARE_PYTHON, SYSTEM_PYTHON, Login
from tests.ssh_laptop import Laptop, laptop_of

pytestmark = pytest.mark.cluster

RANKS = """\
import os
from hpcrun import Run

run = Run.get_context()
run.log("loss", 0.5, step=1)
run.tag("rank", os.environ["RANK"])
everyone = Run.get_context(all_ranks=True)
everyone.log("rank", int(os.environ["RANK"]))
print(run.id, Run.__module__, flush=True)
"""

GOES_ON = """\
import pathlib, time
from hpcrun import Run, tracking

run = Run.get_context()
run.log("attempt", tracking.restart_count() + 1)
run.tag("attempt", tracking.restart_count() + 1)
with run.child_run("fold") as child:
    child.log("acc", 0.5 + tracking.restart_count() / 4)
    child.upload_file("model.txt", "train.py")
run.upload_file("deep/model.txt", "train.py")
print("logged", tracking.restart_count(), flush=True)
while not tracking.restart_count():
    time.sleep(0.05)
"""


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    yield from laptop_of(cluster, tmp_path, monkeypatch)


def test_two_ranks_of_a_python_that_has_no_hpcrun(login: Login) -> None:
    project = login.project({"train.py": RANKS})
    run = login.finish(
        {
            "script": "train.py",
            "distributed_job_config": {"type": "mpi", "node_count": 2, "process_count_per_node": 1},
            "environment": {"python": {"interpreter_path": SYSTEM_PYTHON}},
        },
        project=project,
    )
    assert run["state"] == "Completed", login.log(run, 0)
    assert [login.log(run, rank).split() for rank in (0, 1)] == [[run["id"], "hpcrun.tracking_run"]] * 2
    points = {
        rank: [json.loads(line) for line in login.read(run, f"metrics/rank_{rank:03d}.jsonl").splitlines()]
        for rank in (0, 1)
    }
    assert [[(p["n"], p["v"]) for p in points[rank]] for rank in (0, 1)] == [
        [("loss", 0.5), ("rank", 0)],
        [("rank", 1)],
    ]
    assert login.show(run)["tags"] == {"rank": "0"}


def test_far_away_and_queued_again(laptop: Laptop, cluster: Cluster) -> None:
    """The second attempt goes on in the same files, and with the same child; all of it comes home."""
    cluster.reconfigure({"AuthInfo": "cred_expire=5"})
    (laptop.source / "train.py").write_text(GOES_ON)
    laptop.config(environment={"python": {"interpreter_path": BARE_PYTHON}})
    run = laptop.submit()
    log = laptop.there(run, "user_logs/std_log.txt")
    cluster.wait_for(lambda: log.exists() and "logged 0" in log.read_text(), 60, "the first attempt")
    cluster.run("login", ["scontrol", "requeue", str(run["job_id"])])
    cluster.wait_for(lambda: "logged 1" in log.read_text(), 120, "the second attempt")
    laptop.ended(run)
    laptop.hpcrun("sync", run["id"])
    ended = laptop.show(run)
    assert (ended["state"], ended["tags"]) == ("Completed", {"attempt": "2"})

    home = laptop.project / ".hpcrun/runs"
    found = [*read_points(home / run["id"] / "metrics")]
    assert [(p.name, p.value, p.attempt) for p in found] == [("attempt", 1, 1), ("attempt", 2, 2)]
    assert (home / run["id"] / "outputs/deep/model.txt").read_text() == GOES_ON

    (row,) = laptop.json("ls", "--parent", run["id"])["runs"]
    child = laptop.show(row)
    assert (child["state"], child["display_name"], child["parent"]) == ("Completed", "fold", run["id"])
    found = [*read_points(home / child["id"] / "metrics")]
    assert [(p.value, p.attempt) for p in found] == [(0.5, 1), (0.75, 2)]
    assert (home / child["id"] / "outputs/model.txt").read_text() == GOES_ON
