"""Each policy on real jobs: it stops those that its maths say, worked out anew from what was reported.

Four sweeps at a time, of scripts that report by hpcrun's own module; each report waits for its go, so that
nothing depends on who is quicker.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from statistics import fmean, median

import pytest

from tests.integration.support import SYSTEM_PYTHON, Document, Login

pytestmark = pytest.mark.cluster

SCRIPT = """\
import json, pathlib, sys, time
from hpcrun import Run

home, run = pathlib.Path.home(), Run.get_context()
def wait(name):
    while not (home / name).exists():
        time.sleep(0.1)
for step, loss in enumerate(json.load(open("curves.json"))[sys.argv[2]], 1):
    wait(f"go{step}")
    run.log("loss", loss, step=step)
wait("end")
"""

Reports = Mapping[int, Sequence[float]]
Rule = Callable[[int, int, Reports, Set[int]], bool]
"""Whether a trial is stopped at an interval, given all reports until then and which run. Less is better."""


def bandit(x: int, at: int, seen: Reports, running: Set[int]) -> bool:
    """Worse than the best of all by more than half of it."""
    return min(seen[x]) > 1.5 * min(min(values) for values in seen.values())


def median_stopping(x: int, at: int, seen: Reports, running: Set[int]) -> bool:
    """From the second interval on, worse at its best than the median of the others' means, and its own."""
    means = [fmean(values) for other, values in seen.items() if len(values) == at or other not in running]
    return at >= 2 and min(seen[x]) > median(means)


def truncation(x: int, at: int, seen: Reports, running: Set[int]) -> bool:
    """Of the worse half of those that run."""
    order = sorted(running, key=lambda each: min(seen[each]), reverse=True)
    return x in order[: len(order) // 2]


def asha(x: int, at: int, seen: Reports, running: Set[int]) -> bool:
    """At rungs 1 and 2, not of the better half of all that came so far."""
    there = sorted((each for each in seen if len(seen[each]) >= at), key=lambda each: min(seen[each]))
    return at in (1, 2) and x not in there[: max(1, len(there) // 2)]


POLICIES: dict[str, tuple[Document, Rule, Reports]] = {
    "bandit": (
        {"bandit": {"slack_factor": 0.5}},
        bandit,
        {0: [4.0, 3.0, 2.0], 1: [5.9, 4.6, 4.5], 2: [4.4, 4.3, 3.1]},
    ),
    "median_stopping": (
        {"median_stopping": {"delay_evaluation": 2}},
        median_stopping,
        {0: [9.0, 1.0, 1.0], 1: [3.0, 3.5, 3.0], 2: [8.0, 7.5, 7.0]},
    ),
    "truncation_selection": (
        {"truncation_selection": {"truncation_percentage": 50, "exclude_finished_jobs": True}},
        truncation,
        {0: [2.0, 1.5, 1.0], 1: [1.0, 0.9, 0.8], 2: [7.0, 0.1, 0.1]},
    ),
    "asha": (
        {"asha": {"reduction_factor": 2, "min_resource": 1}},
        asha,
        {0: [6.0, 0.1, 0.1], 1: [2.0, 1.9, 1.8], 2: [3.0, 2.9, 2.8]},
    ),
}


def start(login: Login, name: str) -> str:
    """The id of a sweep over x, with that policy."""
    policy, _, curves = POLICIES[name]
    section = {
        "space": {"x": {"choice": [*curves]}},
        "sampling": "grid",
        "metric": "loss",
        "goal": "minimize",
    }
    environment = {"python": {"interpreter_path": SYSTEM_PYTHON}}
    config = {"experiment": name, "script": "work.py", "environment": environment}
    files = {
        "work.py": SCRIPT,
        "curves.json": json.dumps(curves),
        "sweep.yaml": json.dumps({**config, "sweep": {**section, "policy": policy}}),
    }
    folder = login.project(files, name)
    return str(login.json("sweep", "start", f"{folder}/sweep.yaml", "-t", "virtual")["id"])


def listed(login: Login) -> list[Document]:
    """All trials, as they were last seen."""
    runs: list[Document] = login.json("ls", "--all", "-n", "100", "--no-refresh")["runs"]
    return [run for run in runs if run["type"] != "sweep"]


def worked_out(rule: Rule, recorded: Reports) -> dict[int, int]:
    """Who is stopped, and after how many reports."""
    running, stopped = {*recorded}, dict[int, int]()
    for at in (1, 2, 3):
        seen = {x: values[:at] for x, values in recorded.items()}
        out = {x: at for x in running if rule(x, at, seen, running)}
        stopped |= out
        running -= out.keys()
    return stopped


def reported(login: Login, run_ids: Sequence[str], count: int) -> bool:
    return all(len(reports(login, run_id)) == count for run_id in run_ids)


def test_those_are_stopped_that_the_maths_say(login: Login) -> None:
    sweeps = {name: start(login, name) for name in POLICIES}

    def states() -> set[str]:
        assert login.hpcrun("tick").stderr == ""
        return {run["state"] for run in listed(login)}

    login.cluster.wait_for(lambda: states() == {"Running"}, 90, "all to run")
    for step in (1, 2, 3):
        running = [run["id"] for run in listed(login) if run["state"] == "Running"]
        login.write(f"{login.home}/go{step}", "")
        login.cluster.wait_for(partial(reported, login, running, step), 60, f"{step} reports of each")
        states()  # they are judged
        login.cluster.wait_for(lambda: states() <= {"Running", "Canceled"}, 60, "those that lag to end")
    login.write(f"{login.home}/end", "")
    ended = login.wait(*({"id": sweep_id} for sweep_id in sweeps.values()))
    assert [run["state"] for run in ended] == ["Completed"] * 4
    runs = listed(login)
    jobs = ",".join(run["job_id"] for run in runs)
    said = login.slurm("sacct", "-X", "-n", "-P", f"--jobs={jobs}", "--format=JobID,State")
    slurm = dict(line.split("|") for line in said.splitlines())
    for name in POLICIES:
        check(login, name, [run for run in runs if run["experiment"] == name], slurm)


def check(login: Login, name: str, found: list[Document], slurm: Mapping[str, str]) -> None:
    """Whether those ended early that should, by hpcrun's words and by Slurm's."""
    runs = dict(enumerate(sorted(found, key=lambda run: str(run["key"]))))
    _, rule, curves = POLICIES[name]
    recorded = {x: reports(login, run["id"]) for x, run in runs.items()}
    assert all(values == curves[x][: len(values)] for x, values in recorded.items())
    early = {x: len(recorded[x]) for x, run in runs.items() if run["reason"] == "StoppedEarly"}
    assert early == worked_out(rule, recorded), name
    assert 0 < len(early) < len(runs)
    for x, run in runs.items():
        assert run["state"] == ("Canceled" if x in early else "Completed")
        assert slurm[run["job_id"]].startswith("CANCELLED" if x in early else "COMPLETED")
    one = runs[min(early)]
    told = login.hpcrun("explain", one["id"], check=False).stdout
    assert "lagged behind" in told and f"stopped early by the {name} policy" in told
    assert login.json("show", one["id"], "--no-refresh")["properties"]["stopped_by"] == name


def reports(login: Login, run_id: str) -> list[float]:
    """What a trial's own file says that it reported."""
    file = login.cluster.home() / f".hpcrun/runs/{run_id}/metrics/rank_000.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [line["v"] for line in lines if line.get("n") == "loss"]
