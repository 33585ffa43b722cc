"""What is said of a sweep: as a document, and in words."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpcrun.cli.text import (
    COLOURS,
    duration,
    plain_table,
    printable,
    short_id,
    state_text,
    styled,
    value_text,
)
from hpcrun.engine.clocks import seconds_since
from hpcrun.engine.sweep_state import held_of, progress
from hpcrun.engine.sweep_trials import Trial, better, by_metric, primary, silence, trials_of
from hpcrun.errors import UsageError
from hpcrun.history.record import SWEEP
from hpcrun.states import Reason, RunState
from hpcrun.units import human_seconds

if TYPE_CHECKING:
    from hpcrun.history.record import RunRecord
    from hpcrun.history.store import History
    from hpcrun.workspace import Workspace

SHOWN = 5
HEADS = ("TRIAL", "RUN", "STATE", "BEST", "LAST", "REPORTS", "PARAMETERS")


def sweep_of(workspace: Workspace, reference: str) -> RunRecord:
    """The sweep that is meant; a trial stands for its sweep. Raises UsageError for another run."""
    record = workspace.history.get(workspace.history.resolve(reference))
    if record.type != SWEEP and record.parent is not None:
        parent = workspace.history.get(record.parent)
        record = parent if parent.type == SWEEP else record
    if record.type != SWEEP:
        raise UsageError(f"{record.id} is no sweep", hint=f"See: hpcrun show {short_id(record.id)}")
    return record


def sweep_document(workspace: Workspace, sweep: RunRecord) -> dict[str, Any]:
    """All about a sweep's trials; those with the best values first."""
    known, (metric, goal) = sweep.config["sweep"], primary(sweep)
    trials = by_metric(trials_of(workspace.history, sweep), goal)
    documents = [trial_document(trial) for trial in trials]
    earlier = [each[1] for each in known.get("earlier") or [] if each[1] is not None]
    held = {} if sweep.state.final else held_of(sweep)
    minutes = known.get("minutes")
    left = None if minutes is None else max(0.0, 60.0 * minutes - seconds_since(sweep.created))
    return {
        "id": sweep.id,
        "experiment": sweep.experiment,
        "state": sweep.state.value,
        "reason": sweep.reason,
        "message": sweep.message,
        "metric": metric,
        "goal": goal,
        "sampling": known.get("sampling"),
        "policy": known.get("policy"),
        **progress(workspace.history, sweep),
        "held": {key: held[key] for key in ("words", "since")} if held else None,
        "max_concurrent_runs": known.get("most"),
        "created": sweep.created,
        "started": sweep.started,
        "ended": sweep.ended,
        "seconds_left": None if sweep.state.final else left,
        "best": documents[0] if documents and documents[0]["best"] is not None else None,
        "earlier_best": json_number(better(goal, earlier)),
        "trials": documents,
    }


def trial_document(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "id": trial.run_id,
        "state": trial.state.value,
        "reason": trial.reason,
        "parameters": dict(trial.parameters),
        "best": json_number(trial.best),
        "last": json_number(trial.values[-1] if trial.values else None),
        "reports": len(trial.values),
    }


def show_lines(sweep: RunRecord, history: History) -> list[tuple[str, str]]:
    """What ``hpcrun show`` says of a sweep's own."""
    known, (metric, goal) = sweep.config["sweep"], primary(sweep)
    policy = "" if known.get("policy") in (None, "none") else f", {known['policy']}"
    lines = [("target", sweep.target), ("goal", f"{goal} {printable(metric)}: {known['sampling']}{policy}")]
    lines.append(("trials", counts(progress(history, sweep))))
    best = [t for t in by_metric(trials_of(history, sweep), goal) if t.best is not None][:1]
    for trial in best:
        words = f"{number_text(trial.best)}, trial {trial.number} ({short_id(trial.run_id)})"
        lines += [("best", words), ("", parameters_text(trial.parameters))]
    lines.append(("", f"all of them: hpcrun sweep status {short_id(sweep.id)}"))
    return lines


def silent_line(history: History, sweep: RunRecord, document: Mapping[str, Any]) -> str:
    """That trials have ended without the primary metric; empty where one has it, or none has ended."""
    ended = any(RunState(trial["state"]).final for trial in document["trials"])
    return printable(silence(history, sweep)) if ended and document["best"] is None else ""


def over(sweep: RunRecord, document: Mapping[str, Any]) -> bool:
    """Whether nothing of a sweep goes on: one that has ended may have trials that are tried again."""
    return sweep.state.final and all(RunState(state).final for state in document["states"])


def status_lines(history: History, sweep: RunRecord, document: Mapping[str, Any]) -> list[str]:
    """For people, line by line: the whole, the best, and what runs."""
    lines = [f"{head:<9}{text}" for head, text in _heads(sweep, document)]
    trials = document["trials"]
    if silent := silent_line(history, sweep, document):
        lines += ["", styled(silent, "yellow")]
    best = [trial for trial in trials if trial["best"] is not None][:SHOWN]
    if best:
        lines += ["", f"the best of {_counted(trials)}", *best_lines(document, best).splitlines()]
    running = [t for t in trials if t["state"] == RunState.RUNNING.value and t not in best]
    if running:
        more = f", {SHOWN} of {len(running)}" if len(running) > SHOWN else ""
        table = best_lines(document, running[:SHOWN]).splitlines()
        lines += ["", f"{'also ' if best else ''}running{more}", *table]
    failed = [t["id"] for t in trials if t["state"] == RunState.FAILED.value]
    if failed:
        lines += ["", f"why one failed: hpcrun explain {short_id(failed[0])}"]
        lines.append(f"the failed again: hpcrun sweep retry {short_id(sweep.id)}")
    return lines


def _counted(trials: Sequence[Mapping[str, Any]]) -> str:
    count = sum(trial["best"] is not None for trial in trials)
    return "1 trial that reported" if count == 1 else f"{count} trials that reported"


def _heads(sweep: RunRecord, document: Mapping[str, Any]) -> list[tuple[str, str]]:
    words = styled(state_text(sweep.state, sweep.reason), COLOURS.get(sweep.state))
    found = [("sweep", sweep.id), ("state", words)]
    if sweep.message:
        found.append(("", printable(sweep.message)))
    policy = "" if document["policy"] in (None, "none") else f", {document['policy']}"
    goal = f"{document['goal']} {printable(document['metric'])}: {document['sampling']}{policy}"
    found += [("goal", goal), ("trials", counts(document))]
    took = duration(sweep.created, sweep.ended)
    left = document["seconds_left"]
    found.append(("time", took + (f", {human_seconds(left)} left" if left is not None else "")))
    return found


def counts(document: Mapping[str, Any]) -> str:
    """``40: 12 Completed, 3 StoppedEarly, 4 Running, 21 to come``"""
    states = dict(document["states"])
    early = document["stopped_early"]
    if early:
        states[RunState.CANCELED.value] = states.get(RunState.CANCELED.value, 0) - early
        states[Reason.STOPPED_EARLY.value] = early
    parts = [f"{count} {state}" for state, count in states.items() if count]
    if document["waiting"]:
        parts.append(f"{document['waiting']} to come")
    never = document["total"] - document["waiting"] - sum(document["states"].values())
    if never > 0:
        parts.append(f"{never} never began")
    return f"{document['total']}: {', '.join(parts)}"


def best_lines(document: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> str:
    """Trials as a table."""
    rows = [
        (
            str(trial["number"]),
            short_id(trial["id"]),
            state_text(RunState(trial["state"]), trial["reason"]),
            number_text(trial["best"]),
            number_text(trial["last"]),
            str(trial["reports"]),
            parameters_text(trial["parameters"]),
        )
        for trial in trials
    ]
    return plain_table(HEADS, rows)


def parameters_text(parameters: Mapping[str, Any]) -> str:
    """``lr=0.01 layers=3``"""
    return " ".join(f"{printable(name)}={value_text(value)}" for name, value in parameters.items())


def json_number(value: float | None) -> float | str | None:
    """Text for what JSON has no number for."""
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def number_text(value: float | str | None) -> str:
    return "-" if value is None else value if isinstance(value, str) else f"{value:.6g}"


def finished_lines(workspace: Workspace, record: RunRecord) -> list[str]:
    """What a summary says of a sweep: its trials, and the best of them."""
    document = sweep_document(workspace, record)
    lines = [f"  trials: {counts(document)}"]
    if document["best"] is not None:
        lines += [f"  {line}" for line in best_lines(document, [document["best"]]).splitlines()]
    if silent := silent_line(workspace.history, record, document):
        lines.append(f"  {silent}")
    return [*lines, f"  all of them: hpcrun ls --parent {short_id(record.id)}"]


def clock() -> str:
    return time.strftime("%H:%M:%S")
