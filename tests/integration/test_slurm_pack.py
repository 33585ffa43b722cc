"""Many small trials in one job: a farm of MPI processes on two nodes runs them, each a run of its own."""

from __future__ import annotations

import json

import pytest

from tests.integration.support import SYSTEM_PYTHON, Document, Login

pytestmark = pytest.mark.cluster

SCRIPT = """\
import os, pathlib, signal, sys, time
from hpcrun import Run

x = int(sys.argv[2])
home = pathlib.Path.home()
with open(home / "starts", "a") as file:
    print(x, os.environ["SLURM_JOB_ID"], os.environ["SLURMD_NODENAME"], file=file, flush=True)
print("x is", x, "one of", os.environ["SLURM_NTASKS"], os.environ.get("PMIX_RANK", "alone"))
Run.get_context().log("loss", (x - 17) ** 2)
while (home / f"hold{x}").exists():
    time.sleep(0.1)
if (home / f"kill{x}").exists():  # the process of the farm that this trial is a child of
    parent = os.getppid()
    while b"farm.py" not in pathlib.Path(f"/proc/{parent}/cmdline").read_bytes():
        parent = int(pathlib.Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    time.sleep(600)
pathlib.Path("outputs/x.txt").write_text(f"{x} {os.getcwd()}")
if x == 7:
    raise ValueError("seven")
"""


def start(login: Login, count: int) -> Document:
    """A sweep over x, four trials at a time on two nodes."""
    sweep = {"space": {"x": {"choice": [*range(count)]}}, "sampling": "grid", "metric": "loss"}
    config = {
        "experiment": "packed",
        "script": "work.py",
        "environment": {"python": {"interpreter_path": SYSTEM_PYTHON}},
        "resources": {"time": "5m"},
        "sweep": {**sweep, "goal": "minimize", "pack": {"at_once": 2, "nodes": 2}},
    }
    folder = login.project({"work.py": SCRIPT, "sweep.yaml": json.dumps(config)}, "sweep")
    return login.json("sweep", "start", f"{folder}/sweep.yaml", "-t", "virtual")


def mark(login: Login, *names: str) -> None:
    for name in names:
        login.write(f"{login.home}/{name}", "")


def unmark(login: Login, *names: str) -> None:
    login.cluster.run("login", ["rm", *(f"{login.home}/{name}" for name in names)])


def starts(login: Login) -> list[list[str]]:
    """x, job and node, as they began."""
    path = f"{login.home}/starts"
    return [line.split() for line in login.cat(path).splitlines()] if login.exists(path) else []


def until_started(login: Login, *wanted: int) -> None:
    login.cluster.wait_for(
        lambda: {*wanted} <= {int(x) for x, *_ in starts(login)}, 90, f"{wanted} to have begun"
    )


def trials_of(login: Login, sweep: Document) -> dict[int, Document]:
    """By x, after a step."""
    found = login.json("sweep", "status", sweep["id"])["trials"]
    return {trial["parameters"]["x"]: trial for trial in found}


def stands(login: Login, sweep: Document) -> dict[int, str]:
    found = trials_of(login, sweep)
    return {x: f"{trial['state']} {trial['reason']}".strip() for x, trial in sorted(found.items())}


def farm(login: Login) -> str:
    """What the jobs said."""
    words = (
        'for f in ~/.hpcrun/arrays/*/pack.txt ~/.hpcrun/arrays/*/user_logs/*; do echo "== $f"; cat $f; done'
    )
    return login.cluster.run("login", ["sh", "-c", words], check=False).stdout


def test_a_farm_of_forty(login: Login) -> None:
    """In one job: each trial has its folder, log, metric and end; one that fails fails alone."""
    sweep = start(login, 40)
    [ended] = login.wait(sweep)
    assert ended["state"] == "Completed" and "1 of its 40 trials failed" in ended["message"], farm(login)
    began = starts(login)
    assert sorted(int(x) for x, *_ in began) == [*range(40)]
    assert len({job for _, job, _ in began}) == 1, "one sbatch"
    assert len({node for *_, node in began}) == 2
    assert {x: s for x, s in stands(login, sweep).items() if s != "Completed"} == {7: "Failed BadExit"}
    trials = trials_of(login, sweep)
    for x in (0, 23):
        run = login.show(trials[x])
        assert run["job_id"] == f"{began[0][1]}_{x}" and run["properties"]["trial"] == str(x)
        assert login.log(run) == f"x is {x} one of 1 alone\n"
        assert login.read(run, "outputs/x.txt") == f"{x} {run['folder']}/code"
        assert f"attempt 1 of {run['id']} as job {run['job_id']}" in login.read(run, "system_logs/job.txt")
        assert run["nodes"] in {node for *_, node in began} and run["exit_code"] == 0
    assert {x: trial["best"] for x, trial in trials.items()} == {x: (x - 17) ** 2 for x in range(40)}
    [best] = login.json("sweep", "best", sweep["id"], "-n", "1")["trials"]
    assert best["parameters"] == {"x": 17}
    seven = login.show(trials[7])
    assert seven["exit_code"] == 1 and "ValueError: seven" in login.log(seven)
    assert "ValueError: seven" in login.hpcrun("explain", seven["id"]).stdout
    assert "Completed" in login.hpcrun("explain", trials[8]["id"]).stdout


def test_stopped_killed_and_tried_again(login: Login) -> None:
    """Two trials are canceled, one before its turn; then the farm is killed. What had not begun has another
    turn by itself, what ran is tried again when that is asked for, and what had ended stays as it was."""
    mark(login, *(f"hold{x}" for x in (0, 1, 2, 3, 6)), "kill6")
    sweep = start(login, 12)
    until_started(login, 0, 1, 2, 3)
    trials = trials_of(login, sweep)
    assert trials[11]["state"] == "Queued"
    login.hpcrun("cancel", trials[3]["id"])
    login.hpcrun("cancel", trials[11]["id"])
    until_started(login, 6)
    wanted = {**dict.fromkeys((0, 1, 2, 6), "Running"), **dict.fromkeys((4, 5), "Completed")}
    wanted |= {**dict.fromkeys((3, 11), "Canceled Canceled"), **dict.fromkeys(range(7, 11), "Queued Pack")}
    login.cluster.wait_for(lambda: stands(login, sweep) == wanted, 60, "two to be canceled alone")
    assert "other trials of its sweep go before it" in login.hpcrun("explain", trials[9]["id"]).stdout
    unmark(login, "hold6")
    [ended] = login.wait(sweep)
    stood = stands(login, sweep)
    # Of what was killed with the farm, a script may have lived long enough to see its payload killed.
    assert {stood.pop(x) for x in (0, 1, 2, 6)} <= {"Failed Lost", "Failed Signal"}, farm(login)
    wanted = {**dict.fromkeys((4, 5, 8, 9, 10), "Completed"), 7: "Failed BadExit"}
    assert stood == {**wanted, **dict.fromkeys((3, 11), "Canceled Canceled")}
    assert ended["state"] == "Completed" and "5 of its 12 trials failed" in ended["message"]
    unmark(login, "hold0", "hold1", "hold2", "kill6")
    assert login.json("sweep", "retry", sweep["id"])["again"] == [0, 1, 2, 6, 7]
    again = login.wait(*trials_of(login, sweep).values())
    assert sorted(run["state"] for run in again) == ["Canceled"] * 2 + ["Completed"] * 9 + ["Failed"]
    began = [int(x) for x, *_ in starts(login)]
    assert sorted(began) == sorted([*range(11), 0, 1, 2, 6, 7]), "each once, and those again that were lost"
    assert len({job for _, job, _ in starts(login)}) == 3
