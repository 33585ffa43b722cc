"""Starting a sweep: all is checked before anything is written, and written down before anything is sent."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcrun.config.load import dump_run_config
from hpcrun.engine.code import Code, take_code
from hpcrun.engine.earlier import earlier_runs
from hpcrun.engine.notify import wishes
from hpcrun.engine.packs import check_pack
from hpcrun.engine.prepare import Plan, default_experiment, placed, prepare
from hpcrun.engine.registered import Registered
from hpcrun.engine.submit import Extras
from hpcrun.engine.sweep_step import policy_name, step_sweep
from hpcrun.engine.sweep_submit import GoOn, most_at_once
from hpcrun.engine.sweep_trials import primary, trials_of
from hpcrun.errors import ConfigError, HpcrunError, Problem, SubmissionRejected
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.record import SWEEP, RunRecord, is_experiment, is_run_id, new_run_id, utc_now
from hpcrun.history.store import History
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.sweep import SweepConfig
from hpcrun.places.writing import private, write
from hpcrun.shells.local import LocalShell
from hpcrun.snapshot import SnapshotStore
from hpcrun.sweeps.applying import apply
from hpcrun.sweeps.results import TrialResult
from hpcrun.sweeps.sampling import propose, total
from hpcrun.targets import Targets

_PATIENCE = 60.0
"""Seconds that another process, which is moving the sweep, is waited for."""


@dataclass(frozen=True)
class SweepPlan:
    """A sweep, ready but for its snapshot. ``first`` is its first trial, whose script is as all of theirs;
    ``earlier`` are the trials of the sweeps that it goes on from, ``resumed`` these sweeps. ``code`` is that
    of an earlier sweep, if it is to run that."""

    run_id: str
    experiment: str
    config: SweepConfig
    total: int
    first: Plan
    earlier: tuple[TrialResult, ...]
    resumed: tuple[str, ...] = ()
    notify: dict[str, Any] = field(default_factory=dict)
    code: Code | None = None

    def trials(self, count: int) -> list[dict[str, Any]]:
        """The hyperparameters of the first trials, as far as they are known beforehand."""
        found = propose(self.config, self.run_id, self.earlier, 0, min(count, self.total))
        return [dict(each) for each in found]


def prepare_sweep(
    config: SweepConfig,
    paths: WorkspacePaths,
    targets: Targets,
    history: History | None,
    *,
    experiment: str | None = None,
    run_id: str | None = None,
    code: Code | None = None,
    ask: bool = True,
) -> SweepPlan:
    """Check a sweep against its target, and render its first trial's script; writes nothing.

    ``history`` is None where there is none yet; ``code`` is to be run in the place of the source directory.
    Raises ConfigError with all that is wrong, SnapshotError where that code is gone, MissingExtra where the
    sampling needs what is not installed.
    """
    told = _wishes(config.run_config)
    # Of the sweep it is told once, and of its trials not at all.
    run = config.run_config.model_copy(update={"notify": None})
    name = experiment or run.experiment or default_experiment(run)
    if not is_experiment(name):
        raise ConfigError([Problem(f"not a name for an experiment: {name!r}")])
    if run_id is not None and not is_run_id(run_id):
        raise ConfigError([Problem(f"not a run id: {run_id!r}", hint="Leave it out, and hpcrun makes one.")])
    run_id = run_id or new_run_id(name)
    earlier, resumed = _earlier(history, config)
    count, one = _first(config, run, run_id, earlier)
    known, packed = earlier_runs(history, one), config.pack is not None
    first = prepare(one, paths, targets, experiment=name, earlier=known, code=code, ask=ask, packed=packed)
    if packed:
        check_pack(first)
    return SweepPlan(run_id, name, config, count, first, tuple(earlier), tuple(resumed), told, code)


def first_trial(config: SweepConfig, history: History | None) -> ScriptRunConfig:
    """The configuration of a sweep's first trial, whose script is as all of theirs.

    Raises ConfigError where the sweep has none, MissingExtra.
    """
    earlier, _ = _earlier(history, config)
    return _first(config, config.run_config, new_run_id("sweep"), earlier)[1]


def _first(
    config: SweepConfig, run: ScriptRunConfig, run_id: str, earlier: list[TrialResult]
) -> tuple[int, ScriptRunConfig]:
    """How many trials there are of ``run``, and the configuration of the first."""
    count = total(config, earlier)
    if count < 1:
        words = "all that it would try was tried by the sweeps that it resumes from"
        raise ConfigError([Problem(words, path="sweep.resume_from")])
    return count, apply(run, propose(config, run_id, earlier, 0, 1)[0], config.pass_as)


def _wishes(run: ScriptRunConfig) -> dict[str, Any]:
    """Who is to be told of the sweep's end. Raises ConfigError, with the place in the file."""
    try:
        return wishes(run.notify, mail=True)
    except ConfigError as error:
        raise placed(run, error) from None


def _earlier(history: History | None, config: SweepConfig) -> tuple[list[TrialResult], list[str]]:
    """The trials of earlier sweeps, with numbers below 0, and the sweeps. Raises ConfigError."""
    found: list[TrialResult] = []
    resumed: list[str] = []
    problems: list[Problem] = []
    for index, word in enumerate(config.resume_from):
        try:
            if history is None:
                raise ConfigError([Problem("there is no run history here yet")])
            sweep = history.get(history.resolve(word))
            if sweep.type != SWEEP:
                raise ConfigError([Problem(f"{sweep.id} is no sweep")])
            if primary(sweep) != (config.primary_metric_name, config.primary_metric_goal.value):
                metric, goal = primary(sweep)
                raise ConfigError([Problem(f"{sweep.id} is to {goal} {metric}, and this one something else")])
        except HpcrunError as exc:
            path = f"sweep.resume_from[{index}]"
            problems.append(Problem(exc.message, path=path, hint=exc.hint or ""))
            continue
        resumed.append(sweep.id)
        for trial in trials_of(history, sweep):
            known = (trial.parameters, trial.best, trial.state.value, len(trial.values))
            found.append(TrialResult(-1 - len(found), *known))
    if problems:
        raise ConfigError(problems)
    return found, resumed


def start_sweep(
    history: History,
    targets: Targets,
    plan: SweepPlan,
    extras: Extras,
    go_on: GoOn = lambda: True,
) -> tuple[RunRecord, bool]:
    """Start a prepared sweep: write it down, and submit what may run by now. Its record, and whether it is
    new: a key may name a sweep that exists, which then is moved a step.

    ``go_on`` is asked before each submission. Raises HistoryError, SnapshotError before anything is written;
    SubmissionRejected where trials are refused: the sweep has ended then, and its key is free.
    """
    known = None if extras.key is None else history.by_key(extras.key)
    if known is not None:
        record, created = history.get(known.id), False
    else:
        history.check_open(plan.experiment, extras.parent)
        record, created = _write_down(history, plan, extras)
    if record.type == SWEEP and not record.state.final:
        try:
            step_sweep(history, targets, record.id, go_on=go_on, patience=_PATIENCE)
        except SubmissionRejected:
            history.update(record.id, _without_key)
            raise
    return history.get(record.id), created


def _without_key(sweep: RunRecord) -> None:
    sweep.key = None  # the corrected sweep may have it


def _write_down(history: History, plan: SweepPlan, extras: Extras) -> tuple[RunRecord, bool]:
    paths, shell = history.paths, LocalShell()
    with ExitStack() as kept:
        with private():
            kept.enter_context(SnapshotStore(paths.snapshots, shell).in_use())
            source = Path(plan.config.run_config.source_directory)
            code = plan.code or take_code(paths, source, shell)
        config, snapshot = plan.config, code.snapshot
        record = RunRecord(
            id=plan.run_id,
            experiment=plan.experiment,
            type=SWEEP,
            display_name=extras.display_name or config.run_config.display_name,
            description=config.run_config.description,
            parent=extras.parent,
            target=plan.first.config.compute_target,
            scheduler="none",
            key=extras.key,
            config={"sweep": _told(plan, extras, paths)},
            snapshot={
                "id": snapshot.id,
                "files": snapshot.files,
                "bytes": snapshot.size,
                "diff": bool(code.diff),
                "notes": list(snapshot.notes),
            },
            properties={**code.properties, **extras.properties},
            tags={**config.run_config.tags, **extras.tags},
            notify=plan.notify,
            submission={"state": "sweep", "began": utc_now(), "total": plan.total, "batches": []},
        )
        _keep_diff(history, plan, code.diff)
        return history.create(record)


def _keep_diff(history: History, plan: SweepPlan, diff: str | None) -> None:
    home = history.paths.run(plan.run_id)
    with private():
        home.folder.mkdir(exist_ok=True)
    if diff:
        write(home.diff, diff)


def _for_good(plan: SweepPlan, paths: WorkspacePaths) -> ScriptRunConfig:
    """What all trials run, in words that mean the same next week: what it names is looked up now."""
    run = Registered(paths.registered).resolve(plan.config.run_config).model_copy(deep=True)
    run.source_directory = os.path.abspath(run.source_directory)  # noqa: PTH100 (links keep their names)
    run.experiment, run.display_name, run.description, run.notify = plan.experiment, None, None, None
    run.after = [each.run if each.when == "ok" else f"{each.when}:{each.run}" for each in plan.first.before]
    run.inputs, run.resume_from = dict(plan.first.inputs), plan.first.resume_path
    return run


def _told(plan: SweepPlan, extras: Extras, paths: WorkspacePaths) -> dict[str, Any]:
    """What a sweep's record has of its configuration: that of its runs as text, the rest as in its file."""
    config = plan.config
    return {
        "metric": config.primary_metric_name,
        "goal": config.primary_metric_goal.value,
        "policy": policy_name(config),
        "sampling": config.section.sampling,
        "most": most_at_once(config, plan.total),
        "minutes": config.max_duration_minutes,
        "give_up": config.give_up_after,
        "section": config.section.model_dump(mode="json", exclude_none=True),
        "run": dump_run_config(_for_good(plan, paths)),
        "tags": dict(extras.tags),
        "resumed": list(plan.resumed),
        "earlier": [[dict(each.parameters), each.value, each.state, each.reports] for each in plan.earlier],
    }
