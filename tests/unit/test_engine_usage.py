"""What a run took, where that is known only after its end: asked for once, and then no more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Experiment, Run, ScriptRunConfig, Workspace
from hpcrun.engine.usage import LAG, complete_usage
from hpcrun.errors import CommandError
from hpcrun.history.record import RunRecord
from hpcrun.schedulers.base import Answer
from hpcrun.states import RunState
from tests.engine_help import SILENCE, ScriptedScheduler, knows, source, use, workspace

TOOK = {"cpu_seconds": 5.5}


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with workspace(tmp_path / "ws") as made:
        yield made


def ago(seconds: float) -> str:
    return (datetime.now(timezone.utc) - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def ended(ws: Workspace, answer: Answer | CommandError, **more: Any) -> tuple[ScriptedScheduler, Run]:
    """Job 7 of a Slurm (a scripted one) that answers so: a run that ended by its own word a minute ago."""
    scheduler = use(ws, ScriptedScheduler(["7"], [answer]))
    folder = source(ws.folder.parent / "src", x_txt="x")
    run = Experiment(ws, "test").submit(ScriptRunConfig(folder, command="true"))

    def change(r: RunRecord) -> None:
        r.state, r.started, r.ended, r.scheduler = RunState.COMPLETED, ago(90), ago(60), "slurm"
        for key, value in more.items():
            setattr(r, key, value)

    ws.history.update(run.id, change)
    return scheduler, run


def test_it_is_asked_for_once_and_kept(ws: Workspace) -> None:
    scheduler, run = ended(ws, knows("7", "COMPLETED", usage=TOOK))
    for _ in range(3):
        assert run.get_details()["usage"] == TOOK
    assert len(scheduler.asked) == 1
    assert run.record.usage == TOOK


def test_while_accounting_may_lag_it_is_asked_again(ws: Workspace) -> None:
    scheduler, run = ended(ws, knows("7", "RUNNING"))
    assert complete_usage(ws.history, ws.targets, run.record).usage is None
    scheduler.queries = [knows("7", "COMPLETED", usage=TOOK)]
    assert complete_usage(ws.history, ws.targets, run.record).usage == TOOK


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [(Answer(), LAG.total_seconds() + 60), (knows("8", "COMPLETED", usage=TOOK), 999), (SILENCE, 1)],
)
def test_what_nobody_will_know_is_asked_for_once(answer: Answer, seconds: float, ws: Workspace) -> None:
    """Not in the books; only another job is; accounting does not answer, which takes its time."""
    scheduler, run = ended(ws, answer, ended=ago(seconds))
    for _ in range(3):
        assert run.get_details()["usage"] == {}
    assert len(scheduler.asked) == 1


@pytest.mark.parametrize(
    "more",
    [
        {"state": RunState.RUNNING},
        {"usage": {}},
        {"scheduler": "local"},
        {"job_id": None},
        {"started": None},
        {"ended": ago(8 * 86400)},
        {"ended": "some day"},
    ],
)
def test_others_are_not_asked_about(more: dict[str, Any], ws: Workspace) -> None:
    scheduler, run = ended(ws, knows("7", "COMPLETED", usage=TOOK), **more)
    record = complete_usage(ws.history, ws.targets, run.record)
    assert (record.usage, scheduler.asked) == (more.get("usage"), [])


def test_trouble_is_no_error(ws: Workspace) -> None:
    _, run = ended(ws, CommandError("sacct is not there"))
    assert run.get_details()["usage"] is None


def test_a_site_without_accounting_is_not_asked(ws: Workspace) -> None:
    scheduler, run = ended(ws, knows("7", "COMPLETED", usage=TOOK))
    target = ws.targets.get("local")
    without = target.site.scheduler.model_copy(update={"accounting": False})
    site = target.site.model_copy(update={"scheduler": without})
    ws.targets._open["local"] = replace(target, site=site)
    assert complete_usage(ws.history, ws.targets, run.record).usage is None
    assert scheduler.asked == []
