"""Pipelines: all steps are checked before one is submitted, written down at once, and sent one by one."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpcrun.config.pipeline import Pipeline, in_order, needed
from hpcrun.engine.before import step_names
from hpcrun.engine.cancel import cancel
from hpcrun.engine.code import Code, take_code
from hpcrun.engine.earlier import Step, check_before, earlier_runs
from hpcrun.engine.notify import wishes
from hpcrun.engine.prepare import Plan, default_experiment, prepare
from hpcrun.engine.reconcile import reconcile
from hpcrun.engine.sending import first_held, held, unmake
from hpcrun.engine.steps import PLANNED, finish_making, follow_steps, make_steps
from hpcrun.engine.submit import Extras, Watch, intent, keep_parts, send
from hpcrun.errors import ConfigError, Problem, SubmissionRejected
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.record import PIPELINE, RunRecord, is_experiment, is_run_id, new_run_id, utc_now
from hpcrun.history.store import History
from hpcrun.places.writing import private
from hpcrun.quoting import Secret
from hpcrun.shells.local import LocalShell
from hpcrun.snapshot import SnapshotStore
from hpcrun.states import RunState
from hpcrun.targets import Targets

STEP = "step"
"""The property of a run that has its name among the steps of its pipeline."""

_ANOTHER = 120.0
"""Seconds that another process, which is sending a step, is waited for."""


@dataclass(frozen=True)
class PipelinePlan:
    """A pipeline, ready but for its snapshots: its parent's id, and its steps in their order."""

    run_id: str
    experiment: str
    pipeline: Pipeline
    steps: Mapping[str, Plan]
    notify: dict[str, Any] = field(default_factory=dict)


def prepare_pipeline(
    pipeline: Pipeline,
    paths: WorkspacePaths,
    targets: Targets,
    history: History | None,
    *,
    experiment: str | None = None,
    run_id: str | None = None,
    codes: Mapping[str, Code] | None = None,
    ask: bool = True,
) -> PipelinePlan:
    """Check all steps against their targets and render their scripts; writes nothing.

    ``history`` is None where there is none yet. ``codes`` are those of earlier runs, by step, which are run
    instead of the source directories as they are now. Raises ConfigError with all that is wrong.
    """
    order = in_order(pipeline.steps)
    first = pipeline.steps[order[0]]
    name = experiment or pipeline.experiment or first.experiment or default_experiment(first)
    if not is_experiment(name):
        raise ConfigError([Problem(f"not a name for an experiment: {name!r}")])
    if run_id is not None and not is_run_id(run_id):
        raise ConfigError([Problem(f"not a run id: {run_id!r}", hint="Leave it out, and hpcrun makes one.")])
    plans: dict[str, Plan] = {}
    known: dict[str, Step] = {}
    problems: list[Problem] = []
    for step in order:
        config = pipeline.steps[step]
        if any(other not in known for other in needed(config)):
            continue  # what is wrong with that one was said
        try:
            earlier = earlier_runs(history, config, known)
            code = (codes or {}).get(step)
            plan = prepare(config, paths, targets, experiment=name, earlier=earlier, code=code, ask=ask)
        except ConfigError as exc:
            problems += exc.problems
            continue
        known[step] = Step(plan.run_id, plan.run_dir, plan.target.place.host)
        plans[step] = plan
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    told = wishes(pipeline.notify, mail=True)
    return PipelinePlan(run_id or new_run_id(name), name, pipeline, plans, told)


def submit_pipeline(
    history: History,
    targets: Targets,
    plan: PipelinePlan,
    extras: Extras,
    watch: Watch = lambda record: True,
) -> tuple[RunRecord, bool]:
    """Submit a prepared pipeline; the record of its parent, and whether it is new.

    A key may name a pipeline that exists: what is missing of it is submitted. Raises ConfigError,
    HistoryError, SnapshotError before anything is written; SubmissionRejected where a step is refused: the
    others are canceled then. After any other error whoever looks at the pipeline goes on.
    """
    values = {step.run_id: step.secrets for step in plan.steps.values()}
    if extras.key is not None and (known := history.by_key(extras.key)) is not None:
        finish_making(history, known)
        return send_steps(history, targets, known.id, {}, watch), False
    history.check_open(plan.experiment, extras.parent)
    own = set(values)
    for step in plan.steps.values():
        outside = {each: key for each, key in step.before.items() if each.run not in own}
        check_before(history, targets, step.config, step.target, outside)
    parent, created = _write_down(history, plan, extras)
    return send_steps(history, targets, parent.id, values, watch), created


def _write_down(history: History, plan: PipelinePlan, extras: Extras) -> tuple[RunRecord, bool]:
    """Commit the whole pipeline, and make its steps."""
    paths, shell = history.paths, LocalShell()
    with ExitStack() as locks:
        snapshots_kept = locks.enter_context(ExitStack())
        codes: dict[str, Code] = {}
        steps: dict[str, Plan] = {}
        with private():
            snapshots_kept.enter_context(SnapshotStore(paths.snapshots, shell).in_use())
            for name, step in plan.steps.items():
                source = step.config.source_directory
                if step.code is None:
                    codes[source] = codes.get(source) or take_code(paths, Path(source), shell)
                steps[name] = replace(step, code=step.code or codes[source])
        record = _parent(replace(plan, steps=steps), extras)
        locks.enter_context(first_held(paths.run(record.id)))
        for step in steps.values():
            keep_parts(paths.run(step.run_id), step)
        record, created = history.create(record)
        snapshots_kept.close()  # from here on there is a run that has them
        if not created:
            for run_id in (plan.run_id, *(step.run_id for step in steps.values())):
                unmake(paths.run(run_id))
            return record, False
        make_steps(history, record.id)
    return history.get(record.id), True


def _parent(plan: PipelinePlan, extras: Extras) -> RunRecord:
    began, of_all = utc_now(), plan.pipeline
    steps: list[dict[str, Any]] = []
    for name, step in plan.steps.items():
        own = Extras(parent=plan.run_id, tags=extras.tags, properties={**extras.properties, STEP: name})
        child = replace(intent(step, own), created=began)
        child.display_name = child.display_name or name
        steps.append({"name": name, "id": step.run_id, "record": json.loads(child.to_json())})
    plans = [*plan.steps.values()]
    names = {step.config.compute_target for step in plans}
    sources = {step.config.source_directory for step in plans}
    return RunRecord(
        id=plan.run_id,
        experiment=plan.experiment,
        type=PIPELINE,
        display_name=extras.display_name or of_all.display_name,
        description=of_all.description,
        parent=extras.parent,
        target=plans[0].config.compute_target if len(names) == 1 else "several",
        scheduler="none",
        key=extras.key,
        created=began,
        snapshot=steps[0]["record"]["snapshot"] if len(sources) == 1 else None,
        properties=dict(extras.properties),
        tags={**of_all.tags, **extras.tags},
        notify=plan.notify,
        submission={"state": PLANNED, "began": began, "steps": steps},
    )


def send_steps(
    history: History,
    targets: Targets,
    parent_id: str,
    values: Mapping[str, Mapping[str, Secret]],
    watch: Watch,
) -> RunRecord:
    """Send the steps that were not sent yet, each after those before it; the parent's record then.

    ``values`` are those of their secrets, by run. Raises SubmissionRejected, SubmissionAmbiguous,
    UnreachableError.
    """
    parent = history.get(parent_id)
    for run_id, name in step_names(parent).items():
        if history.get(parent_id).state is RunState.CANCEL_REQUESTED:
            break
        try:
            _send(history, targets, run_id, values.get(run_id), watch)
        except SubmissionRejected as exc:
            cancel(history, targets, parent_id)
            history.update(parent_id, _without_key)
            words = f"step {name} was refused, and the others were canceled: {exc.message}"
            raise SubmissionRejected(words, hint=exc.hint) from exc
    return follow_steps(history, parent_id)


def _without_key(parent: RunRecord) -> None:
    parent.key = None  # the corrected pipeline may have it


def _send(
    history: History, targets: Targets, run_id: str, values: Mapping[str, Secret] | None, watch: Watch
) -> None:
    deadline = time.monotonic() + _ANOTHER
    while True:
        with held(history.paths.run(run_id)) as lock_fd:
            if lock_fd is not None:
                record = history.get(run_id)
                if record.state is not RunState.NOT_STARTED or record.submission.get("state") != "intent":
                    break
                send(history, targets, record, lock_fd, values, watch)
                return
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)
    reconcile(history, targets, history.get(run_id))
