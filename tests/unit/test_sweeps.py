"""Sweeps here: started, moved, judged, stopped, tried again; what commands and Python say of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun import (
    BanditPolicy,
    BayesianParameterSampling,
    Experiment,
    GridParameterSampling,
    HyperDriveConfig,
    HyperDriveRun,
    PrimaryMetricGoal,
    Run,
    ScriptRunConfig,
    Workspace,
    choice,
    uniform,
)
from hpcrun.engine.refresh import refresh
from hpcrun.engine.sweep_step import step_sweep
from hpcrun.engine.sweep_trials import Trial, rows_of, trials_of
from hpcrun.engine.tick import tick
from hpcrun.engine.verify import verify
from hpcrun.errors import ConfigError, RunFailedError, SubmissionRejected, UsageError
from hpcrun.shells.local import LocalShell
from tests.cli_help import Project, document, hpcrun, make_project, refused, typed
from tests.docs_help import DOCS, ROOT, blocks, play, type_here, write_here
from tests.engine_help import ScriptedScheduler, source, until, use, workspace

pytestmark = pytest.mark.slow

TRAIN = """\
import argparse, pathlib, sys, time
from hpcrun import Run

parser = argparse.ArgumentParser()
parser.add_argument("--x", type=float, default=0)
parser.add_argument("--wait")
args = parser.parse_args()
run = Run.get_context()
if args.x == 13:
    sys.exit(3)
for step in range(3):
    run.log("loss", (args.x - 1) ** 2 + 1 - step / 2)
if args.wait:
    print("ready", flush=True)
    while not pathlib.Path(args.wait).exists():
        time.sleep(0.02)
"""
"""The loss is (x - 1)² + 1, + 0.5, + 0; 13 is bad luck."""

SWEEP: dict[str, Any] = {
    "experiment": "exp",
    "script": "train.py",
    "sweep": {
        "space": {"x": {"choice": [0, 1, 2]}},
        "sampling": "grid",
        "metric": "loss",
        "goal": "minimize",
    },
}


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with workspace(tmp_path / "ws") as ws:
        yield ws


@pytest.fixture
def src(tmp_path: Path) -> Path:
    return source(tmp_path / "src", train_py=TRAIN)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(TRAIN)
    yield from make_project(tmp_path)


def file(project: Project, **more: Any) -> str:
    """A sweep's file; ``more`` goes into its section."""
    data = {**SWEEP, "sweep": {**SWEEP["sweep"], **more}}
    (project.folder / "sweep.yaml").write_text(json.dumps(data))
    return "sweep.yaml"


def config(src: Path, *values: float, wait: Path | None = None, **more: Any) -> HyperDriveConfig:
    arguments = [] if wait is None else ["--wait", str(wait)]
    settings: dict[str, Any] = {
        "hyperparameter_sampling": GridParameterSampling({"x": choice(*values)}),
        "primary_metric_name": "loss",
        "primary_metric_goal": PrimaryMetricGoal.MINIMIZE,
        **more,
    }
    return HyperDriveConfig(run_config=ScriptRunConfig(str(src), "train.py", arguments), **settings)


def started(ws: Workspace, sweep: HyperDriveConfig, **more: Any) -> HyperDriveRun:
    run = Experiment(ws, "exp").submit(sweep, **more)
    assert isinstance(run, HyperDriveRun)
    return run


def trials(ws: Workspace, run: Run) -> list[Trial]:
    return trials_of(ws.history, run.record)


def stands(ws: Workspace, run: Run) -> dict[float, str]:
    """States by x."""
    return {trial.parameters["x"]: trial.state.value for trial in trials(ws, run)}


def move(ws: Workspace, run: Run) -> dict[float, str]:
    """One step, as a tick takes it; the states then."""
    assert not tick(ws.history, ws.targets).trouble
    return stands(ws, run)


def test_the_page_says_what_happens() -> None:
    """docs/sweeps.md, done as it says."""
    folder = Path.home() / "project"
    shutil.copytree(ROOT / "examples" / "sweep", folder)
    play(blocks(DOCS / "sweeps.md"), str(Path.home()), type_here(folder), write_here(folder))
    assert (folder / "sweep.yaml").read_text() == (
        ROOT / "examples" / "sweep" / "sweep.yaml"
    ).read_text().partition("\n")[2], "the page shows the example"


def test_as_one(project: Project) -> None:
    """One snapshot, one line in ls, and what commands say of the sweep and of its trials."""
    made = document("submit", file(project), "--wait", "--key", "k", "--name", "grid", "--tag", "a=b")
    assert (made["type"], made["state"], made["new"]) == ("sweep", "Completed", True)
    assert made["display_name"] == "grid" and made["tags"] == {"a": "b"} and len(made["children"]) == 3
    again = document("sweep", "start", "sweep.yaml", "--key", "k")
    assert (again["id"], again["new"]) == (made["id"], False)
    assert [run["id"] for run in document("ls")["runs"]] == [made["id"]]
    listed = document("ls", "--parent", "grid")["runs"]
    assert [run["state"] for run in listed] == ["Completed"] * 3
    runs = [document("show", run["id"]) for run in listed]
    assert {run["snapshot"]["id"] for run in runs} == {made["snapshot"]["id"]}
    assert {run["tags"]["a"] for run in runs} == {"b"}
    assert {(run["properties"]["trial"], run["parameters"]["x"]) for run in runs} == {
        ("0", 0),
        ("1", 1),
        ("2", 2),
    }
    assert {run["key"] for run in runs} == {f"{made['id']}/{number}" for number in range(3)}

    told = document("sweep", "status", runs[0]["id"])
    assert (told["id"], told["total"], told["waiting"]) == (made["id"], 3, 0)
    assert told["states"] == {"Completed": 3} and told["seconds_left"] is None
    assert [(trial["number"], trial["best"], trial["reports"]) for trial in told["trials"]] == [
        (1, 0.0, 3), (0, 1.0, 3), (2, 1.0, 3),
    ]  # fmt: skip
    assert told["best"]["parameters"] == {"x": 1} and told["best"]["best"] == 0.0
    best = document("sweep", "best", "grid", "-n", "2")
    assert [trial["number"] for trial in best["trials"]] == [1, 0]
    text = typed("sweep", "status", "grid")
    assert "trials   3: 3 Completed\n" in text and "the best of 3 trials that reported\nTRIAL" in text
    assert "goal        minimize loss: grid\ntrials      3: 3 Completed\nbest        0, trial 1" in typed(
        "show", "grid"
    )
    assert "All 3 trials have ended." in typed("explain", "grid")
    assert "its trials do" in refused("logs", "grid", code=2)
    assert "is no sweep" in refused(
        "sweep", "status", typed("submit", project.config("true"), "--wait", "--json") and "@-1", code=2
    )
    with Workspace.open(project.folder) as opened:
        assert verify(opened.history.paths, LocalShell()).findings == []
    typed("archive", "grid")
    typed("history", "gc", "grid", "--yes")
    assert [run["type"] for run in document("ls", "--all")["runs"]] == ["script"]


def test_dry_run_writes_nothing(project: Project) -> None:
    text = typed("sweep", "start", file(project), "--dry-run")
    assert text.startswith("# trial 0: x=0\n# trial 1: x=1\n# trial 2: x=2\n# ---- trial 0\n#!/bin/bash\n")
    shown = document("sweep", "start", "sweep.yaml", "--dry-run")
    assert shown["total"] == 3 and shown["trials"] == [{"x": 0}, {"x": 1}, {"x": 2}]
    assert "export HPCRUN_TARGET=local" in shown["script"]
    assert not (project.folder / ".hpcrun").exists()


def test_what_is_refused(project: Project) -> None:
    file(project)
    assert "is not for a sweep" in refused("submit", "sweep.yaml", "--parent", "@-1", code=2)
    assert "is not for a sweep" in refused("submit", "sweep.yaml", "--", "x", code=2)
    assert "there is no nope.py" in refused("submit", "sweep.yaml", "--set", "script=nope.py", code=3)
    assert "there is no run history" in refused("submit", file(project, resume_from=["@-1"]), code=3)
    assert not (project.folder / ".hpcrun").exists()
    typed("submit", project.config("true"), "--wait")
    assert "sweep.resume_from[0]" in refused("submit", "sweep.yaml", code=3)


def test_no_more_than_may_run_at_once(ws: Workspace, src: Path, tmp_path: Path) -> None:
    """The next begin as others end, by whoever moves the sweep."""
    go = tmp_path / "go"
    run = started(ws, config(src, 0, 1, 2, 3, wait=go, max_concurrent_runs=2))
    assert len(rows_of(ws.history, run.id)) == 2
    until(lambda: [*move(ws, run).values()] == ["Running"] * 2)
    with pytest.raises(ConfigError, match="is a sweep that goes on"):
        Experiment(ws, "exp").submit(ScriptRunConfig(str(src), command="true"), after=[run])
    assert run.get_status() == "Running" and run.record.message == "0 of 4 trials have ended"
    go.touch()
    run.wait_for_completion()
    assert set(stands(ws, run).values()) == {"Completed"} and len(stands(ws, run)) == 4


def test_the_policy_stops_what_lags(ws: Workspace, src: Path, tmp_path: Path) -> None:
    """Each report is judged once, and the reason of the end says by what."""
    run = started(ws, config(src, 1, 5, wait=tmp_path / "go", policy=BanditPolicy(slack_amount=3)))
    until(lambda: move(ws, run) == {1: "Running", 5: "Canceled"})
    good, bad = trials(ws, run)
    assert (len(good.values), len(bad.values), bad.best) == (3, 3, 16.0)
    record = ws.history.get(bad.run_id)
    assert (record.reason, record.properties["stopped_by"]) == ("StoppedEarly", "bandit")
    assert record.message == "stopped early by the bandit policy, after 3 reports of loss (its best: 16.0)"
    assert run.record.submission["judged"]["0"] == 3
    before = run.record
    step_sweep(ws.history, ws.targets, run.id)
    assert run.record == before, "nothing new, nothing done"
    (tmp_path / "go").touch()
    run.wait_for_completion()
    assert run.status == "Completed" and run.record.message == ""
    found = run.get_best_run_by_primary_metric()
    assert found is not None and found.id == good.run_id
    stopped = Run.get(ws, bad.run_id).explain()
    assert stopped["cause"] == "StoppedEarly" and "lagged behind" in stopped["words"]


def test_it_gives_up(ws: Workspace, src: Path) -> None:
    run = started(ws, config(src, *[13] * 1, 13.0, max_concurrent_runs=1, give_up_after=1))
    with pytest.raises(RunFailedError, match="all of the first 1 trials to end have failed"):
        run.wait_for_completion()
    assert (run.record.reason, len(trials(ws, run))) == ("BadExit", 1)
    why = run.explain()
    assert (
        why["cause"] == "TrialsFailed"
        and f"hpcrun explain {trials(ws, run)[0].run_id[-8:]}" in why["next"][0]
    )


def test_its_time_is_over(ws: Workspace, src: Path, tmp_path: Path) -> None:
    """What runs is canceled, and what has not begun never does."""
    run = started(ws, config(src, 0, 1, 2, wait=tmp_path / "go", max_concurrent_runs=2))

    def minutes(value: float) -> None:
        def change(r: Any) -> None:
            r.config["sweep"]["minutes"] = value

        ws.history.update(run.id, change)

    minutes(10_000)
    assert "Canceled" not in move(ws, run).values()
    minutes(0.0)
    until(lambda: move(ws, run) and run.status == "Canceled")
    assert run.record.reason == "Timeout" and set(stands(ws, run).values()) == {"Canceled"}
    assert len(stands(ws, run)) == 2, "the third never began"
    assert "The sweep's time was over." in run.explain()["words"]


@pytest.mark.parametrize("what", ["a newer hpcrun's", "damaged"])
def test_one_that_cannot_be_moved_keeps_no_other_from_moving(project: Project, what: str) -> None:
    """It is told once, and again when all is well."""
    ids = [
        document("sweep", "start", file(project, max_concurrent_runs=1, **more))["id"]
        for more in ({}, {"policy": {"bandit": {"slack_amount": 99}}}, {})
    ]
    broken = project.folder / ".hpcrun/runs" / ids[1] / "run.json"

    def change(**section: object) -> None:
        record = json.loads(broken.read_text())
        if what == "damaged":
            record["submission"]["early"] = {"x": 1} if section["news"] else {}
        else:
            record["config"]["sweep"]["section"] |= section
            if not section["news"]:
                del record["config"]["sweep"]["section"]["news"]
        broken.write_text(json.dumps(record))

    def ended(*wanted: str) -> bool:
        assert refused("tick", code=code) == ""
        return all(document("show", each, "--no-refresh")["state"] == "Completed" for each in wanted)

    change(news=1)
    code = {"damaged": 8}.get(what, 3)
    said = refused("tick", code=code)
    assert said.startswith(f"hpcrun: {ids[1]}: ") and len(said.splitlines()) == 1
    until(lambda: ended(ids[0], ids[2]), "the others to end")
    assert document("show", ids[1], "--no-refresh")["state"] == "Running"
    change(news=0)
    code = 0
    assert refused("tick", code=0) == f"hpcrun: {ids[1]}: all is well again\n"
    until(lambda: ended(ids[1]), "the one that was mended to end")


def test_ticks_say_nothing_of_what_goes_as_it_should(project: Project) -> None:
    """A trial that is stopped early, one that fails, and a sweep that fails are no trouble of the tick's."""
    go = f"arguments=[--wait, '{project.folder}/go']"
    sweep = file(project, space={"x": {"choice": [1, 5, 13]}}, policy={"bandit": {"slack_amount": 3}})
    first = document("sweep", "start", sweep, "--set", go)["id"]
    bad = file(project, space={"x": {"choice": [13]}})
    second = document("sweep", "start", bad)["id"]

    def stand() -> tuple[list[str], str]:
        assert refused("tick", code=0) == ""
        told = document("sweep", "status", first, "--no-refresh")["trials"]
        states = {trial["number"]: trial["reason"] or trial["state"] for trial in told}
        return [states[n] for n in range(3)], document("show", second, "--no-refresh")["state"]

    until(lambda: stand() == (["Running", "StoppedEarly", "BadExit"], "Failed"), "all of it to be seen")
    (project.folder / "go").touch()
    until(lambda: stand()[0][0] == "Completed", "the last to end")
    assert document("show", first, "--no-refresh")["state"] == "Completed"
    log = hpcrun("tick", "--log", "-v")
    assert (log.exit_code, log.output) == (0, "")


def test_stopped_by_somebody(project: Project) -> None:
    typed(
        "submit", file(project, max_concurrent_runs=1), "--set", f"arguments=[--wait, '{project.folder}/go']"
    )
    (sweep,) = document("ls")["runs"]
    told = document("sweep", "stop", sweep["id"])
    assert told["total"] == 3
    ended = document("wait", sweep["id"], code=21)["runs"][0]
    assert (ended["state"], ended["reason"], len(ended["children"])) == ("Canceled", "Canceled", 1)
    assert "had ended" in typed("sweep", "stop", sweep["id"])
    assert "The sweep was stopped." in typed("explain", sweep["id"])


def test_failed_ones_again(ws: Workspace, src: Path, tmp_path: Path) -> None:
    """While the sweep goes on, and once it has ended: the trial counts once, its failed run stays."""
    go = tmp_path / "go"
    run = started(ws, config(src, 13, 1, wait=go, max_concurrent_runs=2))
    until(lambda: move(ws, run) == {13: "Failed", 1: "Running"})
    first = trials(ws, run)[0].run_id
    assert run.retry() == [0]
    second = trials(ws, run)[0].run_id
    assert second != first and ws.history.get(second).key == f"{run.id}/0.1"
    assert ws.history.get(second).parameters == ws.history.get(first).parameters
    until(lambda: move(ws, run) == {13: "Failed", 1: "Running"})
    go.touch()
    run.wait_for_completion()
    assert (run.status, run.record.message) == ("Completed", "1 of its 2 trials failed")
    assert run.retry() == [0]
    assert len([*run.get_children()]) == 4 and len(trials(ws, run)) == 2
    until(lambda: move(ws, run)[13] == "Failed")
    assert rows_of(ws.history, run.id)[0][0] == 2
    assert run.status == "Completed"


def test_again_once_it_has_ended(ws: Workspace, src: Path, tmp_path: Path) -> None:
    """No more at once than before, by ticks or whoever waits, who waits for these as well."""
    log, bad = tmp_path / "log", tmp_path / "bad"
    bad.touch()
    (src / "train.py").write_text(f"""
import pathlib, sys, time
log = pathlib.Path({str(log)!r})
print("start", file=log.open("a"), flush=True)
time.sleep(0.2)
print("end", file=log.open("a"), flush=True)
sys.exit(pathlib.Path({str(bad)!r}).exists())
""")
    run = started(ws, config(src, 1, 2, 3, 4, max_concurrent_runs=2))
    run.wait_for_completion(raise_on_error=False)
    assert run.status == "Failed"
    bad.unlink()
    log.unlink()
    assert run.retry() == [0, 1, 2, 3]
    assert sum(attempt for attempt, _ in rows_of(ws.history, run.id).values()) == 2, "two by two"
    assert run.retry() == [2, 3], "these wait for that already"
    run.wait_for_completion(raise_on_error=False)
    assert {*stands(ws, run).values()} == {"Completed"} and run.status == "Failed"
    now = most = 0
    for line in log.read_text().split():
        now += 1 if line == "start" else -1
        most = max(most, now)
    assert most <= 2 and log.read_text().count("start") == 4
    assert not tick(ws.history, ws.targets).trouble
    assert [*ws.history.paths.again.iterdir()] == []


def test_again_by_ticks_alone(ws: Workspace, src: Path) -> None:
    run = started(ws, config(src, 13, 13.0, max_concurrent_runs=1, give_up_after=9))
    run.wait_for_completion(raise_on_error=False)
    assert run.retry() == [0, 1]
    until(lambda: refresh(ws.history, ws.targets) and not ws.history.active())
    assert [attempt for attempt, _ in rows_of(ws.history, run.id).values()] == [1, 0]
    move(ws, run)
    assert [attempt for attempt, _ in rows_of(ws.history, run.id).values()] == [1, 1], "nothing else goes on"


def test_again_takes_its_turn(ws: Workspace, src: Path, tmp_path: Path) -> None:
    """A trial that is tried again is one of those that may run at once."""
    run = started(ws, config(src, 13, 1, 2, wait=tmp_path / "go", max_concurrent_runs=1))
    until(lambda: move(ws, run) == {13: "Failed", 1: "Running"})
    assert run.retry() == [0]
    assert move(ws, run) == {13: "Failed", 1: "Running"}, "there is no room"
    (tmp_path / "go").touch()
    run.wait_for_completion()
    assert rows_of(ws.history, run.id)[0][0] == 1, "and it came before the sweep ended"
    assert stands(ws, run) == {13: "Failed", 1: "Completed", 2: "Completed"}


def test_from_where_another_ended(ws: Workspace, src: Path) -> None:
    """Its trials are not run again, and may be the best."""
    first = started(ws, config(src, 0, 1))
    first.wait_for_completion()
    second = started(ws, config(src, 0, 1, 2, resume_from=[first.id]))
    second.wait_for_completion()
    assert [trial.parameters for trial in trials(ws, second)] == [{"x": 2}]
    best = second.get_best_run_by_primary_metric()
    assert best is not None and best.record.parent == first.id, "0.0 is a value"
    own = second.get_best_run_by_primary_metric(include_resume_from_runs=False)
    assert own is not None and own.record.parent == second.id
    with pytest.raises(ConfigError, match="was tried by the sweeps that it resumes from"):
        started(ws, config(src, 0, 1, 2, resume_from=[first.id, second.id]))
    with pytest.raises(ConfigError, match="is to minimize loss"):
        started(ws, config(src, 7, resume_from=[first.id], primary_metric_name="acc"))


def test_from_python(ws: Workspace, src: Path) -> None:
    run = started(ws, config(src, 13, 1, 0), tags={"a": "b"})
    run.wait_for_completion()
    assert isinstance(Run.get(ws, run.id), HyperDriveRun)
    assert [type(each) for each in Experiment(ws, "exp").get_runs()] == [HyperDriveRun]
    bad, good, fair = trials(ws, run)
    assert run.get_hyperparameters() == {
        bad.run_id: '{"x": 13}', good.run_id: '{"x": 1}', fair.run_id: '{"x": 0}',
    }  # fmt: skip
    rows = run.get_children_sorted_by_primary_metric()
    assert [(row["run_id"], row["best_primary_metric"], row["status"]) for row in rows] == [
        (good.run_id, 0.0, "Completed"), (fair.run_id, 1.0, "Completed"), (bad.run_id, None, "Failed"),
    ]  # fmt: skip
    assert json.loads(rows[0]["hyperparameters"]) == {"x": 1}
    ids = [row["run_id"] for row in run.get_children_sorted_by_primary_metric(reverse=True)]
    assert ids == [fair.run_id, good.run_id, bad.run_id]
    top = run.get_children_sorted_by_primary_metric(top=5, discard_no_metric=True)
    assert [row["run_id"] for row in top] == [good.run_id, fair.run_id]
    with pytest.raises(UsageError):
        run.get_children_sorted_by_primary_metric(top=-1)


def test_bayesian_learns_from_what_has_ended(ws: Workspace, src: Path) -> None:
    """In waves, a fifth at a time; what was proposed is what was run."""
    sampling = BayesianParameterSampling({"x": uniform(-5, 5)}, seed=3)
    run = started(ws, config(src, 0, hyperparameter_sampling=sampling, max_total_runs=12, give_up_after=None))
    assert len(trials(ws, run)) == 2
    run.wait_for_completion()
    found = trials(ws, run)
    assert [trial.number for trial in found] == [*range(12)] and run.status == "Completed"
    assert {trial.state.value for trial in found} == {"Completed"}
    assert all(trial.best == pytest.approx((trial.parameters["x"] - 1) ** 2) for trial in found)


def test_refused_trials_end_the_sweep(ws: Workspace, src: Path) -> None:
    """Once, with the scheduler's words; and the key is free for the corrected one."""
    use(ws, ScriptedScheduler([SubmissionRejected("no such partition")]))
    with pytest.raises(SubmissionRejected, match="no such partition"):
        started(ws, config(src, 0, 1, max_concurrent_runs=1), key="k")
    (row,) = ws.history.list(children=False)
    record = ws.history.get(row.id)
    assert (record.state.value, record.reason, record.key) == ("Failed", "Rejected", None)
    assert record.message == "trials were refused: no such partition"
    told = Run.get(ws, row.id).explain()
    (refused_one,) = ws.history.list(parent=row.id)
    assert refused_one.reason == "Rejected" and refused_one.id[-8:] in told["next"][0]


def test_what_is_deleted_of_a_cache_is_read_anew(ws: Workspace, src: Path) -> None:
    run = started(ws, config(src, 0, 1, policy=BanditPolicy(slack_amount=9)))
    run.wait_for_completion()
    refresh(ws.history, ws.targets)
    kept = ws.history.paths.run(run.id).trials
    before = trials(ws, run)
    for text in (b"", b"{}", b'{"trials": {"x": 1}}', b"\\xff"):
        kept.write_bytes(text)
        assert trials(ws, run) == before
