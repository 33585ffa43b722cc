"""Packs in the ways that sweeps go: from a laptop and judged there, in Bayesian waves, up to a time limit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.engine_help import until
from tests.integration.support import SYSTEM_PYTHON, Document, Login
from tests.ssh_laptop import Laptop, laptop_of

pytestmark = pytest.mark.cluster

ENVIRONMENT = {"python": {"interpreter_path": SYSTEM_PYTHON}}
REPORTS = """\
import pathlib, sys, time
from hpcrun import Run

x, home = int(sys.argv[2]), pathlib.Path.home()
with open(home / "starts", "a") as file:
    print(x, file=file, flush=True)
Run.get_context().log("loss", [1.0, 9.0, 2.0, 3.0][x])
while not (home / "end").exists():
    time.sleep(0.1)
"""
SLOW = """\
import sys, time
x = int(sys.argv[2])
print("x is", x, flush=True)
time.sleep(0 if x == 0 else 600)
"""


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    yield from laptop_of(cluster, tmp_path, monkeypatch)


def grid(count: int) -> Document:
    return {
        "space": {"x": {"choice": [*range(count)]}},
        "sampling": "grid",
        "metric": "loss",
        "goal": "minimize",
    }


def test_from_a_laptop_with_a_policy(laptop: Laptop) -> None:
    """Over SSH: one job; what trials report is judged here, and one of them ends for it, and not the job."""
    (laptop.project / "src/work.py").write_text(REPORTS)
    pack = {"pack": {"at_once": 2, "nodes": 2}, "policy": {"bandit": {"slack_amount": 3}}}
    laptop.config(script="work.py", environment=ENVIRONMENT, sweep={**grid(4), **pack})
    started = laptop.json("submit", "run.yaml", "-t", "far")
    # A report is judged once, by what the others had reported until then.
    until(lambda: laptop.reported() == 4, "all to have reported", seconds=90)

    def told() -> list[Document]:
        return list(laptop.json("sweep", "status", started["id"], "--no-refresh")["trials"])

    def by_x() -> dict[int, str]:
        done = laptop.hpcrun("tick")
        assert done.stdout + done.stderr == ""
        return {t["parameters"]["x"]: f"{t['state']} {t['reason'] or ''}".strip() for t in told()}

    going = dict.fromkeys((0, 2, 3), "Running")
    until(lambda: by_x() == {**going, 1: "Canceled StoppedEarly"}, "one to be stopped", seconds=90)
    laptop.cluster.write("/home/alice/end", "")
    ended = dict.fromkeys((0, 2, 3), "Completed")
    until(lambda: by_x() == {**ended, 1: "Canceled StoppedEarly"}, "the others to end", seconds=90)
    laptop.hpcrun("tick")
    assert laptop.json("show", started["id"])["state"] == "Completed"
    assert sorted(laptop.starts()) == ["0", "1", "2", "3"]
    numbers = {laptop.show(trial)["job_id"] for trial in told()}
    assert len(numbers) == 4 and len({number.partition("_")[0] for number in numbers}) == 1, "one job"
    [best] = laptop.json("sweep", "best", started["id"], "-n", "1")["trials"]
    home = laptop.project / ".hpcrun/runs" / best["id"]
    assert best["best"] == 1.0 and list((home / "metrics").glob("rank_*.jsonl"))


def test_bayesian_packs(login: Login) -> None:
    """A job's worth of trials at a time, each from what those before reported."""
    script = (
        "import sys\nfrom hpcrun import Run\nRun.get_context().log('loss', (float(sys.argv[2]) - 1) ** 2)\n"
    )
    section = {
        **grid(0), "space": {"x": {"uniform": [-5, 5]}}, "sampling": "bayesian", "seed": 2,
        "max_total_runs": 12, "pack": {"at_once": 2, "nodes": 2},
    }  # fmt: skip
    config = {"experiment": "exp", "script": "work.py", "environment": ENVIRONMENT, "sweep": section}
    folder = login.project({"work.py": script, "sweep.yaml": json.dumps(config)}, "bayes")
    sweep = login.json("sweep", "start", f"{folder}/sweep.yaml", "-t", "virtual")

    def ended(count: int) -> bool:
        runs = login.json("ls", "--all")["runs"]
        return [run["state"] for run in runs if run["type"] != "sweep"] == ["Completed"] * count

    for wave in (4, 8, 12):
        login.cluster.wait_for(partial(ended, wave), 60, f"{wave} trials to have ended")
        assert login.hpcrun("tick").stderr == ""
    told = login.json("sweep", "status", sweep["id"], "--no-refresh")
    assert told["state"] == "Completed"
    numbers = [login.show(trial)["job_id"].split("_")[0] for trial in told["trials"]]
    assert sorted(numbers.count(number) for number in {*numbers}) == [4, 4, 4]


def test_up_to_the_time_limit(login: Login) -> None:
    """What ended in time stays; what ran is told so; what had not begun has another job, by the sweep."""
    config = {
        "experiment": "exp", "script": "work.py", "environment": ENVIRONMENT, "resources": {"time": "1m"},
        "sweep": {**grid(5), "pack": {"at_once": 2}},
    }  # fmt: skip
    folder = login.project({"work.py": SLOW, "sweep.yaml": json.dumps(config)}, "slow")
    sweep = login.json("sweep", "start", f"{folder}/sweep.yaml", "-t", "virtual")

    def stands() -> dict[int, str]:
        found = login.json("sweep", "status", sweep["id"])["trials"]
        return {t["parameters"]["x"]: f"{t['state']} {t['reason'] or ''}".strip() for t in found}

    wanted = {0: "Completed", **dict.fromkeys((1, 2), "Failed Timeout"), **dict.fromkeys((3, 4), "Running")}
    login.cluster.wait_for(lambda: stands() == wanted, 200, "a second job")
    found = login.json("sweep", "status", sweep["id"])["trials"]
    one = next(trial for trial in found if trial["parameters"]["x"] == 1)
    assert "reached its time limit while it ran" in login.show(one)["message"]
    assert login.log(login.show(one)) == "x is 1\n"
    login.hpcrun("sweep", "stop", sweep["id"])
    [ended] = login.wait(sweep)
    assert ended["state"] == "Canceled"
