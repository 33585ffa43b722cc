"""One step of a sweep: what lags behind is stopped, what is to be tried next is submitted, and its end seen.

Steps may overlap, be late, be cut off anywhere, and be taken on any machine that shares the workspace. One at
a time is taken, under a lock that dies with its holder. What a step decides is written down before it is
done, and done again by the next if need be: a trial to be stopped is canceled until it has ended, and one
that was planned is submitted by its key, of which there is one run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hpcrun.engine.cancel import cancel_all
from hpcrun.engine.clocks import seconds_since
from hpcrun.engine.sweep_state import follow_sweep, stop, stop_of, to_try_again
from hpcrun.engine.sweep_submit import GoOn, config_of, stops, submit_due
from hpcrun.engine.sweep_trials import outcome, primary, rows_of, trials_of
from hpcrun.errors import CommandError, HistoryError, HpcrunError, NotFoundError, SubmissionRejected
from hpcrun.history.files import locked
from hpcrun.history.index import RunRow
from hpcrun.history.record import SWEEP, RunRecord
from hpcrun.history.store import History
from hpcrun.states import RunState
from hpcrun.sweeps.driver import hopeless
from hpcrun.targets import Targets

if TYPE_CHECKING:
    from hpcrun.models.sweep import SweepConfig

Rows = Mapping[int, tuple[int, RunRow]]
STOPPED_BY = "stopped_by"
"""The property of a trial that names the policy that stopped it."""


@dataclass
class Stepped:
    """``busy``: another process is at it, and this one did nothing. ``submitted`` are ids of trials, and
    ``stopped`` are numbers of those that the policy gave up."""

    busy: bool = False
    submitted: list[str] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)


def step_sweep(
    history: History,
    targets: Targets,
    sweep_id: str,
    *,
    go_on: GoOn = lambda: True,
    patience: float = 0.0,
) -> Stepped:
    """Move a sweep one step, its trials being as the history has them.

    Raises SubmissionRejected where trials were refused (the sweep then ends, Failed), and whatever else keeps
    a submission from being made: the next step goes on.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(history.paths.run(sweep_id).sweep_lock, seconds=patience))
        except HistoryError:
            return Stepped(busy=True)
        found, sweep = Stepped(), history.get(sweep_id)
        if sweep.state.final:
            _try_again(history, targets, sweep, found, go_on)
            return found
        try:
            _step(history, targets, sweep, found, go_on)
        finally:
            follow_sweep(history, sweep_id, held=True)
        return found


def _try_again(history: History, targets: Targets, sweep: RunRecord, found: Stepped, go_on: GoOn) -> None:
    """Submit what may run now of the trials of a sweep that has ended which are to be tried again."""
    mark = history.paths.again / sweep.id
    if mark.exists():
        found.submitted = submit_due(history, targets, sweep.id, config_of(sweep), go_on)
        if not to_try_again(history, history.get(sweep.id)):
            mark.unlink(missing_ok=True)


def _step(history: History, targets: Targets, sweep: RunRecord, found: Stepped, go_on: GoOn) -> None:
    rows = rows_of(history, sweep.id)
    if not stop_of(sweep)[0]:
        sweep = _end_if_due(history, sweep, rows)
    if stop_of(sweep)[0]:
        _cancel(history, targets, [row for _, row in rows.values()])
        return
    config = config_of(sweep)
    _judge(history, targets, sweep, config, found)
    try:
        found.submitted = submit_due(history, targets, sweep.id, config, go_on)
    except SubmissionRejected as exc:
        stop(history, sweep.id, "refused", f"trials were refused: {exc.message}")
        _cancel(history, targets, [row for _, row in rows_of(history, sweep.id).values()])
        raise


def _end_if_due(history: History, sweep: RunRecord, rows: Rows) -> RunRecord:
    """Its time may be over, or all that it tries fail."""
    known = sweep.config.get("sweep") or {}
    minutes = known.get("minutes")
    if minutes is not None and seconds_since(sweep.created) > 60.0 * minutes:
        return stop(history, sweep.id, "duration", f"its {minutes} minutes are over")
    words = hopeless([outcome(row) for _, row in rows.values()], known.get("give_up"))
    return stop(history, sweep.id, "failures", words) if words else sweep


def _cancel(history: History, targets: Targets, rows: Sequence[RunRow]) -> None:
    """Raises the last of what went wrong, once all were tried."""
    trouble = cancel_all(history, targets, [row.id for row in rows if not row.state.final])
    for error in trouble.values():
        raise error


def _judge(history: History, targets: Targets, sweep: RunRecord, config: SweepConfig, found: Stepped) -> None:
    """Have the policy judge what running trials reported, each report once, and cancel those it stops."""
    if not stops(config):
        return
    from hpcrun.sweeps.policies import judge

    trials = trials_of(history, sweep, keep=True)
    early = {int(number): str(words) for number, words in sweep.submission.get("early", {}).items()}
    judged = {int(number): int(count) for number, count in sweep.submission.get("judged", {}).items()}
    running = {t.number for t in trials if t.state is RunState.RUNNING and t.number not in early}
    values = {t.number: t.values for t in trials if t.values}
    chosen = judge(config.policy, config.primary_metric_goal, values, running, judged)
    metric, name = primary(sweep)[0], policy_name(config)
    for t in trials:
        if t.number in chosen:
            early[t.number] = (
                f"stopped early by the {name} policy, after {len(t.values)} reports of {metric} "
                f"(its best: {t.best if t.best is not None else 'none'})"
            )
    now = {**judged, **{number: len(values.get(number, ())) for number in running if number in values}}
    if now != judged or chosen:

        def note(r: RunRecord) -> None:
            r.submission = {
                **r.submission,
                "judged": {str(number): count for number, count in sorted(now.items())},
                "early": {str(number): words for number, words in sorted(early.items())},
            }

        history.update(sweep.id, note)
    lagging = {t.run_id: early[t.number] for t in trials if t.number in early and not t.state.final}
    for run_id, words in lagging.items():
        _mark(history, run_id, name, words)
    found.stopped = sorted(chosen)
    for error in cancel_all(history, targets, list(lagging)).values():
        raise error


def policy_name(config: SweepConfig) -> str:
    """``bandit``, ``median_stopping`` …: as files have it."""
    policy = config.section.policy
    return "none" if policy is None else next(iter(policy.model_dump(exclude_none=True)))


def _mark(history: History, run_id: str, name: str, words: str) -> None:
    """Whoever sees the end of the trial says by this why it ended."""

    def change(r: RunRecord) -> None:
        if not r.state.final and r.outcome is None:
            r.submission = {**r.submission, "stopped": words}
            r.properties.setdefault(STOPPED_BY, name)

    history.update(run_id, change)


def step_sweeps(history: History, targets: Targets, without: Collection[str] = ()) -> dict[str, HpcrunError]:
    """Move the sweeps of a workspace that have not ended one step each, but for those of the sites
    ``without``; what was the matter, by their ids.

    What was refused is no trouble: the sweep has ended, and says why.
    """
    trouble: dict[str, HpcrunError] = {}
    active = [(row.id, row.target) for row in reversed(history.active()) if row.type == SWEEP]
    for sweep_id, target in dict([*active, *_ended_to_try_again(history)]).items():
        if target.partition(":")[0] in without:
            continue
        try:
            step_sweep(history, targets, sweep_id)
        except SubmissionRejected:
            pass
        except HpcrunError as exc:
            trouble[sweep_id] = exc
        except Exception as exc:  # one that is damaged must not keep the others from going on
            trouble[sweep_id] = CommandError(f"this sweep cannot be moved: {type(exc).__name__}: {exc}")
    return trouble


def _ended_to_try_again(history: History) -> list[tuple[str, str]]:
    """Sweeps that have ended and whose trials take their turn again, with their targets."""
    found = []
    for mark in sorted(history.paths.again.iterdir()) if history.paths.again.is_dir() else []:
        try:
            found.append((mark.name, history.get(mark.name).target))
        except NotFoundError:
            mark.unlink(missing_ok=True)
        except HistoryError:
            continue  # told where runs are looked at
    return found
