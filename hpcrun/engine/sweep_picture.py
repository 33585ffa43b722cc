"""A sweep's trials as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from hpcrun.engine.sweep_trials import Trial, better, primary, silence, trials_of
from hpcrun.errors import NotFoundError
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.states import Reason, RunState


def draw_sweep(history: History, sweep: RunRecord, path: Path) -> None:
    """Draw a sweep as far as it has come. Raises NotFoundError where no trial has reported a finite value of
    the primary metric, HpcrunError where the file cannot be written."""
    from hpcrun.models.sweep import SweepSection
    from hpcrun.sweeps.plots import draw
    from hpcrun.sweeps.shown import Shown, picture

    metric, goal = primary(sweep)
    found = in_order(trials_of(history, sweep))
    shown = [
        Shown(each.number, _short(each.run_id), each.parameters, _finite(each.best), look_of(each))
        for each in found
    ]
    if all(each.value is None for each in shown):
        raise NotFoundError(
            f"there is nothing to draw of {sweep.id}: {silence(history, sweep)}",
            hint=f"See how they stand: hpcrun ls --parent {_short(sweep.id)}",
        )
    known = [each[1] for each in sweep.config["sweep"].get("earlier") or []]
    earlier = better(goal, [value for value in map(_finite, known) if value is not None])
    space = SweepSection.model_validate(sweep.config["sweep"]["section"]).space
    count = f"{len(shown)} trial{'s' if len(shown) > 1 else ''}"
    name = f"{sweep.display_name} ({sweep.id})" if sweep.display_name else sweep.id
    draw(picture(f"{name} · {goal} {metric} · {count}", metric, goal, shown, space, earlier), path)


def in_order(trials: Sequence[Trial]) -> list[Trial]:
    """As they ended; those that have not, behind them, by their numbers."""
    return sorted(trials, key=lambda each: (not each.state.final, each.ended or "", each.number))


def look_of(trial: Trial) -> str:
    """How a trial stands, in the picture's words."""
    if not trial.state.final:
        return "not ended"
    if trial.reason == Reason.STOPPED_EARLY:
        return "stopped early"
    return {RunState.COMPLETED: "Completed", RunState.CANCELED: "Canceled"}.get(trial.state, "Failed")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _short(run_id: str) -> str:
    return run_id.rpartition("_")[2]
