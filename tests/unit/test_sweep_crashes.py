"""Ticks that are killed anywhere, overlap or come late: no trial twice, none lost, never too many at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hpcrun import (
    Experiment,
    HyperDriveConfig,
    HyperDriveRun,
    PrimaryMetricGoal,
    RandomParameterSampling,
    ScriptRunConfig,
    Workspace,
    uniform,
)
from hpcrun.engine.sweep_again import retry
from hpcrun.engine.sweep_trials import rows_of, trials_of
from hpcrun.engine.sweep_wait import move
from hpcrun.engine.tick import tick
from hpcrun.engine.verify import verify
from hpcrun.shells.local import LocalShell
from tests.cli_help import ended, program
from tests.engine_help import source, until, workspace
from tests.unit.test_history_faults import killed_at

pytestmark = pytest.mark.slow

KILLS = 200
MOST = 3

PAYLOAD = """\
echo "start $x" >> {log}
mkdir -p "$HPCRUN_RUN_DIR/metrics"
printf '{{"n": "loss", "v": %s, "t": 1.0}}\\n' "$x" >> "$HPCRUN_RUN_DIR/metrics/rank_000.jsonl"
echo "end $x" >> {log}
"""


def config(folder: Path, log: Path, total: int, payload: str = PAYLOAD) -> HyperDriveConfig:
    return HyperDriveConfig(
        run_config=ScriptRunConfig(str(folder), command=payload.format(log=log)),
        hyperparameter_sampling=RandomParameterSampling({"x": uniform(0, 1)}, seed=7),
        primary_metric_name="loss",
        primary_metric_goal=PrimaryMetricGoal.MINIMIZE,
        max_total_runs=total,
        max_concurrent_runs=MOST,
        pass_as="variables",
    )


def took_place(log: Path) -> tuple[Counter[str], int]:
    """How often each payload began, and how many ran at once at most."""
    starts: Counter[str] = Counter()
    now = most = 0
    for line in log.read_text().splitlines():
        word, _, what = line.partition(" ")
        starts[what] += word == "start"
        now += 1 if word == "start" else -1
        most = max(most, now)
    return starts, most


def moved(folder: Path, sweep_id: str, how: str) -> None:
    """What a process of its own does: a whole tick, or the sweep's step alone, which no tick keeps out."""
    with Workspace(folder) as ws:
        if how == "tick":
            tick(ws.history, ws.targets)
        else:
            move(ws.history, ws.targets, sweep_id)


def overlapping(work: Callable[[], object], seconds: float) -> Callable[[], bool]:
    """Begin some work in a process that is killed after a while; what waits for its end, and says whether it
    was killed."""
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            work()
        finally:
            os._exit(0)
    return lambda: os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def test_ticks_are_killed_at_random(tmp_path: Path) -> None:
    """Two hundred times, any two of their steps apart, two processes at a time; an undisturbed sweep of the
    same seed tries the same, and finds the same best."""
    folder, chance = source(tmp_path / "src"), random.Random(20260131)
    (folder / "readme").write_text("nothing")
    kills, sweeps = 0, 0
    while kills < KILLS:
        place, log = tmp_path / f"ws{sweeps}", tmp_path / f"log{sweeps}"
        sweeps += 1
        with workspace(place) as ws:
            run = Experiment(ws, "exp").submit(config(folder, log, 30))
            while not run.record.state.final:
                beside = overlapping(partial(moved, place, run.id, "move"), chance.uniform(0.005, 0.15))
                kills += killed_at(partial(moved, place, run.id, "tick"), chance.randrange(1, 3000))
                kills += beside()
            compared(ws, run, log, tmp_path, folder, 30)
    assert sweeps >= 1


def compared(ws: Workspace, run: Any, log: Path, tmp_path: Path, folder: Path, total: int) -> None:
    assert isinstance(run, HyperDriveRun)
    tick(ws.history, ws.targets)
    found = trials_of(ws.history, run.record)
    assert [trial.number for trial in found] == [*range(total)] and run.status == "Completed"
    starts, most = took_place(log)
    assert set(starts.values()) == {1} and len(starts) == total, "each ran, and ran once"
    assert most <= MOST
    trials = {trial.run_id for trial in found}
    # One whose submission was cut off twice is given up, and its trial is submitted as another run.
    others = [each.record for each in run.get_children() if each.id not in trials]
    assert all(each.reason == "Rejected" and each.key is None for each in others)
    with Workspace(ws.folder):  # as the next command does, which puts right what was cut off
        findings = verify(ws.history.paths, LocalShell()).findings
    assert {finding.what for finding in findings} <= {"folder", "leftover"}, findings
    calm_log = tmp_path / "calm"
    if not calm_log.exists():
        with workspace(tmp_path / "calm-ws") as other:
            calm = Experiment(other, "exp").submit(config(folder, calm_log, total))
            calm.wait_for_completion()
    assert {*took_place(calm_log)[0]} == {*starts}, "the same hyperparameters"
    best = run.get_best_run_by_primary_metric()
    assert best is not None
    assert str(min(map(float, starts))) == str(best.record.parameters["x"])


def at_once(barrier: Any, folder: Path, sweep_id: str) -> None:
    with Workspace(folder) as ws:
        barrier.wait()
        move(ws.history, ws.targets, sweep_id)


def test_many_at_a_barrier(tmp_path: Path) -> None:
    """Eight processes take the same step at the same time."""
    folder, log, go = source(tmp_path / "src", a_txt="a"), tmp_path / "log", tmp_path / "go"
    payload = PAYLOAD + f"while [ ! -e {go} ]; do sleep 0.02; done\n"
    processes = multiprocessing.get_context("fork")
    with workspace(tmp_path / "ws") as ws:
        run = Experiment(ws, "exp").submit(config(folder, log, 9, payload))
        barrier = processes.Barrier(8)
        for _ in range(3):
            group = [processes.Process(target=at_once, args=(barrier, ws.folder, run.id)) for _ in range(8)]
            for each in group:
                each.start()
            for each in group:
                each.join()
            assert len(rows_of(ws.history, run.id)) == MOST, "as many as may run at once"
        go.touch()
        until(lambda: tick(ws.history, ws.targets) and run.record.state.final)
        starts, _ = took_place(log)
        assert set(starts.values()) == {1} and len(starts) == 9


def test_days_late(tmp_path: Path) -> None:
    """Nobody looked for as long as the sweep may take: what ended counts, and nothing more begins."""
    folder, log = source(tmp_path / "src", a_txt="a"), tmp_path / "log"
    with workspace(tmp_path / "ws") as ws:
        run = Experiment(ws, "exp").submit(config(folder, log, 9))
        until(lambda: log.exists() and log.read_text().count("end") == MOST)

        def long_ago(r: Any) -> None:
            r.config["sweep"]["minutes"] = 0.0

        ws.history.update(run.id, long_ago)
        time.sleep(0.05)
        until(lambda: tick(ws.history, ws.targets) and run.record.state.final)
        assert (run.status, run.record.message) == ("Completed", "its 0.0 minutes are over")
        assert len(rows_of(ws.history, run.id)) == MOST


def retried(folder: Path, sweep_id: str) -> None:
    with Workspace(folder) as ws:
        retry(ws.history, ws.targets, sweep_id)


def test_a_retry_that_is_killed(tmp_path: Path) -> None:
    """Whatever it had come to: asked once more, each failed trial runs once more, and not twice."""
    folder = source(tmp_path / "src", a_txt="a")
    for count in (1, 40, 120, 250, 400, 600, 900):
        place, log = tmp_path / f"ws{count}", tmp_path / f"log{count}"
        with workspace(place) as ws:
            run = Experiment(ws, "exp").submit(config(folder, log, 2, PAYLOAD + "exit 3\n"))
            run.wait_for_completion(raise_on_error=False)
            again = partial(retried, place, run.id)
            killed_at(again, count)
            tick(ws.history, ws.targets)
            attempts = [attempt for attempt, _ in rows_of(ws.history, run.id).values()]
            if attempts == [0, 0]:
                again()
            while ws.history.active():
                tick(ws.history, ws.targets)
            starts, _ = took_place(log)
            assert set(starts.values()) == {2}, f"killed at step {count}"


def test_ctrl_c_while_it_submits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once or twice, at random moments: what began goes on with the next look, and nothing is there twice."""
    monkeypatch.chdir(tmp_path)
    chance, log = random.Random(5), tmp_path / "log"
    space = {"x": {"choice": [*range(6)]}}
    sweep = {"space": space, "sampling": "grid", "metric": "m", "goal": "minimize", "pass_as": "variables"}
    (tmp_path / "src").mkdir()
    config = {"experiment": "exp", "source_directory": "src", "command": f"echo $KEY $x >> {log}"}
    codes: Counter[int] = Counter()
    for number in range(10):
        ours = {**config, "environment_variables": {"KEY": str(number)}, "sweep": sweep}
        (tmp_path / "sweep.yaml").write_text(json.dumps(ours))
        process = program("sweep", "start", "sweep.yaml", "--key", str(number))
        for _ in range(1 + number % 2):
            time.sleep(chance.uniform(0.1, 0.7))
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        code, _, said = ended(process)
        # Python itself ends with 1 where the signal comes while it starts, before hpcrun does.
        codes[130 if code == 1 and re.search("import_site|import runpy", said) else code] += 1
        assert ended(program("sweep", "start", "sweep.yaml", "--key", str(number)))[0] == 0
    assert codes.keys() <= {0, 130, -signal.SIGINT} and codes[130] >= 1, codes
    with workspace(tmp_path) as ws:
        while ws.history.active():
            tick(ws.history, ws.targets)
        sweeps = ws.history.list(limit=None, children=False)
        assert sorted(str(row.key) for row in sweeps) == sorted(map(str, range(10)))
        assert {row.state.value for row in sweeps} == {"Completed"}
    lines = Counter(log.read_text().splitlines())
    assert lines == Counter(f"{number} {x}" for number in range(10) for x in range(6))
