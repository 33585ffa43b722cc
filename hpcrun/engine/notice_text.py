"""What is told of a run's end: a document for programs, and a letter for people."""

from __future__ import annotations

import math
from typing import Any

from hpcrun.engine.sweep_state import progress
from hpcrun.engine.sweep_trials import by_metric, primary, trials_of
from hpcrun.history.record import PARENTS, SWEEP, RunRecord
from hpcrun.history.store import History


def document(history: History, record: RunRecord) -> dict[str, Any]:
    """What a webhook and a command get. Of a sweep also its trials, and the best of them."""
    how = f"{record.state.value} ({record.reason})" if record.reason else record.state.value
    name = f"{record.display_name} ({record.id})" if record.display_name else record.id
    sweep = _sweep(history, record) if record.type == SWEEP else None
    told = {
        "event": f"{record.id}/{record.state.value}",
        "text": f"{name}: {how}{_best_text(sweep)}",
        "run": {
            **{key: getattr(record, key) for key in ("id", "experiment", "display_name", "type", "parent")},
            "state": record.state.value,
            **{key: getattr(record, key) for key in ("reason", "message", "exit_code", "target", "job_id")},
            **{key: getattr(record, key) for key in ("created", "started", "ended", "tags", "parameters")},
        },
        **({} if sweep is None else {"sweep": sweep}),
    }
    plain: dict[str, Any] = _plain(told)
    return plain


def _sweep(history: History, record: RunRecord) -> dict[str, Any]:
    metric, goal = primary(record)
    stands = progress(history, record)
    found = [trial for trial in by_metric(trials_of(history, record), goal) if trial.best is not None]
    best = None
    if found:
        trial = found[0]
        best = {"number": trial.number, "id": trial.run_id, "value": trial.best}
        best["parameters"] = dict(trial.parameters)
    shown = {key: stands[key] for key in ("total", "states", "stopped_early")}
    return {"metric": metric, "goal": goal, **shown, "best": best}


def _best_text(sweep: dict[str, Any] | None) -> str:
    if sweep is None:
        return ""
    best = sweep["best"]
    if best is None:
        return f"; no trial has reported {sweep['metric']}"
    given = ", ".join(f"{name}={value}" for name, value in best["parameters"].items())
    return f"; best {sweep['metric']} {best['value']:.6g} by trial {best['number']} ({given})"


def _plain(value: Any) -> Any:
    """The same with text for the numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def letter(folder: str, told: dict[str, Any]) -> str:
    """The same for people, who find the run in the workspace ``folder``."""
    run, sweep = told["run"], told.get("sweep")
    lines = [told["text"], ""]
    if run["message"]:
        lines.append(f"  why      {run['message']}")
    if sweep is not None:
        early = f", {sweep['stopped_early']} of them stopped early" if sweep["stopped_early"] else ""
        counts = ", ".join(f"{count} {state}" for state, count in sweep["states"].items())
        lines.append(f"  trials   {sweep['total']}: {counts}{early}")
        if sweep["best"] is not None:
            lines.append(f"  best     {sweep['best']['id']}")
    lines += [f"  target   {run['target']}", f"  began    {run['created']}", f"  ended    {run['ended']}"]
    verb = "sweep status" if sweep is not None else "show" if run["type"] in PARENTS else "explain"
    return "\n".join([*lines, "", f"In {folder}: hpcrun {verb} {run['id']}", ""])
