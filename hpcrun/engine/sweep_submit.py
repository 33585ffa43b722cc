"""What a sweep submits next: no more than may run at once, and no more than the site takes.

What is to be submitted is written down before it is. A limit of the site's on how many jobs may be queued, or
a controller that does not answer, ends no sweep: what was refused leaves nothing, stays planned, and is asked
for again by a later step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcrun.engine.clocks import seconds_since
from hpcrun.engine.gc import delete, doomed
from hpcrun.engine.sweep_state import again_of, apart_of, batches_of, held_of, stop_of, turns_of
from hpcrun.engine.sweep_trials import key_of, parameters_of, rows_of, trials_of
from hpcrun.engine.trials import Trial, submit_trials
from hpcrun.errors import ConfigError, HpcrunError, Problem
from hpcrun.history.index import RunRow
from hpcrun.history.record import RunRecord, utc_now
from hpcrun.history.store import History
from hpcrun.schedulers.base import SubmissionPostponed
from hpcrun.states import Reason, RunState
from hpcrun.sweeps.driver import Batch, fills, joined, more, pieces, planned, running_at_most
from hpcrun.targets import Targets

if TYPE_CHECKING:
    from hpcrun.models.sweep import SweepConfig
    from hpcrun.sweeps.results import TrialResult

Rows = Mapping[int, tuple[int, RunRow]]
GoOn = Callable[[], bool]
"""Asked before each submission; whether to go on."""

AGAIN = 15.0
"""Seconds before what was refused for now is asked for again, unless a trial has ended meanwhile."""


def config_of(sweep: RunRecord) -> SweepConfig:
    """The configuration that a sweep was started with. Raises ConfigError."""
    from hpcrun.config.load import read_run_config
    from hpcrun.models.sweep import SweepConfig, SweepSection

    try:
        known = sweep.config["sweep"]
        run = read_run_config(known["run"], f"configuration of {sweep.id}")
        return SweepConfig.of(SweepSection.model_validate(known["section"]), run)
    except (ValueError, KeyError, TypeError) as error:  # a ValidationError is a ValueError
        words = f"the configuration of {sweep.id} cannot be read"
        hint = f"A newer hpcrun may have written it. To end it: hpcrun sweep stop {sweep.id}"
        raise ConfigError([Problem(f"{words}: {str(error).splitlines()[0]}", hint=hint)]) from error


def most_at_once(config: SweepConfig, total: int) -> int | None:
    """How many trials may run at once; None where that is left to the site.

    Bayesian sampling learns nothing from trials that all began together: a fifth of them, where nothing is
    said; or as many as a job of a pack has room for.
    """
    if config.max_concurrent_runs is None and _learns(config):
        return min(total, config.pack.size) if config.pack is not None else max(1, total // 5)
    return config.max_concurrent_runs


def stops(config: SweepConfig) -> bool:
    from hpcrun.models.policies import NoTerminationPolicy

    return not isinstance(config.policy, NoTerminationPolicy)


def _learns(config: SweepConfig) -> bool:
    from hpcrun.models.sweep import BayesianParameterSampling

    return isinstance(config.hyperparameter_sampling, BayesianParameterSampling)


@dataclass(frozen=True)
class _Due:
    """Trials that go together; no more than ``limit`` of these run at once, by their array's own limit."""

    trials: list[Trial]
    limit: int | None


@dataclass
class _Sending:
    """One step's submissions of a sweep."""

    history: History
    targets: Targets
    sweep_id: str
    config: SweepConfig
    go_on: GoOn
    submitted: list[str]

    def sweep(self) -> RunRecord:
        return self.history.get(self.sweep_id)

    def goes_on(self) -> bool:
        """Whether more is to be submitted: not of one that was stopped, but for what is to be tried again."""
        sweep = self.sweep()
        return self.go_on() and (sweep.state.final or not stop_of(sweep)[0])

    def note(self, **changes: Any) -> None:
        """Write down how the submissions stand; None takes a word away."""

        def change(r: RunRecord) -> None:
            known = {**r.submission, **changes}
            r.submission = {key: value for key, value in known.items() if value is not None}

        self.history.update(self.sweep_id, change)

    def set_apart(self, numbers: Iterable[int], **changes: Any) -> None:
        """Note that these trials are in no array that has a limit: they are submitted as others end."""
        self.note(apart=sorted({*apart_of(self.sweep()), *numbers}), **changes)

    def submit(self, due: _Due, trials: Sequence[Trial]) -> list[Trial]:
        """Those that were left, since no array's limit would hold for them."""
        sweep, left = self.sweep(), list[Trial]()
        self.submitted += submit_trials(
            self.history,
            self.targets,
            self.config.run_config,
            trials,
            parent=sweep.id,
            experiment=sweep.experiment,
            limit=due.limit,
            tags=dict(sweep.config["sweep"].get("tags") or {}),
            pass_as=self.config.pass_as,
            left=None if due.limit is None else left,
            go_on=self.go_on,
            pack=self.config.pack,
        )
        return left


def submit_due(
    history: History, targets: Targets, sweep_id: str, config: SweepConfig, go_on: GoOn
) -> list[str]:
    """Submit what may run now; the ids. What the site does not take now is noted, and told.

    Raises SubmissionRejected for what it will never take, and whatever else keeps it from being asked.
    """
    sending = _Sending(history, targets, sweep_id, config, go_on, [])
    _tidy(history, targets, sweep_id)
    while _round(sending):
        pass
    return sending.submitted


def _round(sending: _Sending) -> bool:
    """Submit what is due; whether that has come to something else that is."""
    sweep, rows = sending.sweep(), rows_of(sending.history, sending.sweep_id)
    due = _due(sending, sweep, rows)
    held = held_of(sweep)
    busy = sum(not row.state.final for _, row in rows.values())
    if not due:
        if held:
            sending.note(held=None)
        return False
    if held and busy >= held["busy"] and 0 <= seconds_since(held["at"]) < AGAIN:
        return False
    for each in due:
        try:
            if not _send(sending, each, int(held["busy"]) - busy if held else None):
                return False
        except _Apart as apart:
            there = rows_of(sending.history, sending.sweep_id)
            sending.set_apart((n for n in apart.numbers if n not in there), **apart.changes)
            return True
    if held:
        sending.note(held=None)
    return False


class _Apart(Exception):
    """Trials of an array with a limit that are to be submitted as others end."""

    def __init__(self, trials: Iterable[Trial], **changes: Any) -> None:
        self.numbers, self.changes = [trial.number for trial in trials], changes


def _send(sending: _Sending, due: _Due, room: int | None) -> bool:
    """Submit trials, in pieces where the site does not take all of them; whether it took them. ``room``: so
    many were taken the last time, beyond those that are there."""
    sizes = pieces(len(due.trials), room)
    at, size, refused = 0, next(sizes), None
    while size:
        if not sending.goes_on():
            return False
        try:
            left = sending.submit(due, due.trials[at : at + size])
        except SubmissionPostponed as exc:
            _tidy(sending.history, sending.targets, sending.sweep_id)
            if exc.fewer and due.limit is not None:
                raise _Apart(due.trials, waves=True) from exc
            refused = exc
            size = sizes.send(False) if exc.fewer else 0
            continue
        if left:
            raise _Apart(left)
        at += size
        size = sizes.send(True)
    if refused is not None and at < len(due.trials):
        _hold(sending, refused)
    return at == len(due.trials)


def _hold(sending: _Sending, error: SubmissionPostponed) -> None:
    """Note that the site takes no more now, and why, in its own words."""
    known = held_of(sending.sweep())
    rows = rows_of(sending.history, sending.sweep_id).values()
    busy = sum(not row.state.final for _, row in rows)
    now = utc_now()
    since = known.get("since", now)
    sending.note(held={"words": error.message, "since": since, "at": now, "busy": busy})


def _tidy(history: History, targets: Targets, sweep_id: str) -> None:
    """Take away the runs of trials that the site did not take for now: they are submitted as others."""
    for row in history.list(parent=sweep_id, states=[RunState.FAILED], limit=None, include_archived=True):
        if row.key is None and row.reason == Reason.REJECTED:
            with suppress(HpcrunError):  # it stays, as a run that was refused
                if history.get(row.id).submission.get("postponed"):
                    for doom in doomed(history, run_ids=[row.id])[0]:
                        delete(history, targets, doom)


def _due(sending: _Sending, sweep: RunRecord, rows: Rows) -> list[_Due]:
    """What may be submitted now, written down."""
    history, config, sweep_id = sending.history, sending.config, sending.sweep_id
    total = int(sweep.submission["total"])
    most = most_at_once(config, total)
    batches = batches_of(sweep)
    apart = _apart(sending, sweep, rows, batches)
    repeated = {number for number, (attempt, _) in rows.items() if attempt}
    busy = {number for number, (_, row) in rows.items() if not row.state.final}
    ended, alone = rows.keys() - busy, repeated | apart
    used = running_at_most(batches, ended | alone) + len(alone & busy)
    room = None if most is None else max(0, most - used)
    repeats = [
        Trial(number, parameters_of(history, rows[number][1].id), key_of(sweep_id, number, attempt))
        for number, attempt in sorted({**turns_of(history, sweep_id, rows), **again_of(sweep)}.items())
        if number in ended and rows[number][0] < attempt
    ][:room]
    if sweep.state.final:
        return [_Due(repeats, None)] if repeats else []
    lone = sorted(apart - rows.keys())[: None if room is None else room - len(repeats)]
    free = None if most is None else most - len(repeats) - len(lone) - len(alone & busy)
    new = more(total, batches, ended | alone, free, queued=_waits_in_queue(sending.targets, sweep, config))
    results = results_of(history, sweep, config)
    if config.pack is not None and not fills(new, total - planned(batches), config.pack.size, most):
        new = []
    if new:
        batches = _plan(history, sweep, config, joined(batches, new), new, results)
        sweep = history.get(sweep_id)
    due = [_Due(repeats, None)] if repeats else []
    if lone:
        due.append(_Due(_trials(sweep, config, results, lone), None))
    for batch in batches:
        missing = [number for number in batch.numbers if number not in rows and number not in apart]
        if missing:
            due.append(_Due(_trials(sweep, config, results, missing), batch.limit))
    return due


def _apart(sending: _Sending, sweep: RunRecord, rows: Rows, batches: Sequence[Batch]) -> set[int]:
    """The trials that no array's limit holds. So are those that are missing of an array that is there: one
    of their own would run beside it."""
    apart = apart_of(sweep)
    waves = bool(sweep.submission.get("waves"))
    strays = {
        number
        for batch in batches
        if batch.limit is not None and (waves or any(number in rows for number in batch.numbers))
        for number in batch.numbers
        if number not in rows and number not in apart
    }
    if strays:
        sending.set_apart(strays)
    return apart | strays


def _waits_in_queue(targets: Targets, sweep: RunRecord, config: SweepConfig) -> bool:
    """Whether all trials may wait in the queue of the site, whose arrays keep to the limit, as packs
    do, which also look for trials that are to be stopped."""
    if config.pack is not None:
        return not _learns(config)
    site = targets.get(sweep.target).site.scheduler
    waves = bool(sweep.submission.get("waves"))  # not all of them are taken at once
    return (
        not waves
        and site.type == "slurm"
        and site.max_array_size > 1
        and not _learns(config)
        and not stops(config)
    )


def _plan(
    history: History,
    sweep: RunRecord,
    config: SweepConfig,
    batches: Sequence[Batch],
    new: Sequence[Batch],
    results: Sequence[TrialResult],
) -> list[Batch]:
    """Write down what is about to be submitted, before it is; what stands in the record then.

    What Bayesian sampling proposes is kept with it: asked again, it would know more, and say something else.
    """
    proposed: dict[str, Any] = {}
    if _learns(config):
        from hpcrun.sweeps.sampling import propose

        known = rows_of(history, sweep.id)
        left = sweep.submission.get("proposed", {})
        proposed = {number: each for number, each in left.items() if int(number) not in known}
        for batch in new:
            found = propose(config, sweep.id, results, batch.first, batch.count)
            proposed.update({str(batch.first + index): each for index, each in enumerate(found)})

    def change(r: RunRecord) -> None:
        if stop_of(r)[0] or r.state.final:
            return
        r.submission = {**r.submission, "batches": [batch.entry for batch in batches]}
        if proposed:
            r.submission["proposed"] = proposed

    return batches_of(history.update(sweep.id, change))


def _trials(
    sweep: RunRecord, config: SweepConfig, results: Sequence[TrialResult], numbers: Sequence[int]
) -> list[Trial]:
    """The trials of these numbers, which are in order."""
    if _learns(config):
        proposed = sweep.submission["proposed"]
        return [Trial(number, proposed[str(number)], key_of(sweep.id, number)) for number in numbers]
    from hpcrun.sweeps.sampling import propose

    first = numbers[0]
    found = propose(config, sweep.id, results, first, numbers[-1] - first + 1)
    return [Trial(number, found[number - first], key_of(sweep.id, number)) for number in numbers]


def results_of(history: History, sweep: RunRecord, config: SweepConfig) -> list[TrialResult]:
    """What is known of the trials of earlier sweeps, and, where the sampling learns from them, of its own."""
    from hpcrun.sweeps.results import TrialResult

    found = [
        TrialResult(-1 - index, *each)
        for index, each in enumerate(sweep.config["sweep"].get("earlier") or [])
    ]
    if _learns(config):
        found += [
            TrialResult(t.number, t.parameters, t.best, t.state.value, len(t.values))
            for t in trials_of(history, sweep, keep=True)
        ]
    return found
