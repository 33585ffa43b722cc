"""Submitting a run, exactly once.

    intent     the row and run.json are there, script included; nothing was sent
    preparing  the run's folder is complete, its environment is being made
    submitting the run's folder is complete, sbatch may be under way
    submitted  there is a job id
    ambiguous  the answer was lost: looked up before anything else (see reconcile)
    rejected   the scheduler said no

The submit lock is held all the while, by this process and by the sbatch it starts: as long as the lock is
held, the submission is still going on, and as soon as it is not, it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hpcrun.engine.code import Code, take_code
from hpcrun.engine.compare import by_key
from hpcrun.engine.earlier import check_before
from hpcrun.engine.environments import LOOK, LOOK_FAR
from hpcrun.engine.notify import TRIAL, wishes
from hpcrun.engine.prepare import Plan, told
from hpcrun.engine.reconcile import settle
from hpcrun.engine.sending import carry_out, first_held, go_on, unmake
from hpcrun.errors import SubmissionAmbiguous
from hpcrun.history.paths import RunPaths
from hpcrun.history.record import RunRecord, utc_now
from hpcrun.history.store import History
from hpcrun.metrics.parameters import Value, from_arguments, of_command
from hpcrun.models.run import ScriptRunConfig
from hpcrun.places import secrets
from hpcrun.places.writing import private, write, write_bytes
from hpcrun.quoting import Secret
from hpcrun.shells.local import LocalShell
from hpcrun.snapshot import SnapshotStore
from hpcrun.states import RunState
from hpcrun.targets import Targets


@dataclass(frozen=True)
class Extras:
    """What goes with a run but not into its script."""

    key: str | None = None
    display_name: str | None = None
    parent: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Value] = field(default_factory=dict)


Watch = Callable[[RunRecord], bool]
"""Called now and then while a run's environment is being made; whether to wait on."""


def submit(
    history: History, targets: Targets, plan: Plan, extras: Extras, watch: Watch = lambda record: True
) -> tuple[RunRecord, bool]:
    """Submit a prepared run; the record, and whether it is new (a key may name a run that exists).

    Where its environment has to be made, that is waited for as long as ``watch`` says so; what is left to do
    then is done by whoever looks at the run next.

    Raises ConfigError where it is to wait for what cannot come true, HistoryError if the experiment or the
    parent is archived, SnapshotError, SubmissionRejected; SubmissionAmbiguous only after looking for the job
    in vain.
    """
    if extras.key is not None:
        known = history.by_key(extras.key)
        if known is not None:
            return history.get(known.id), False
    history.check_open(plan.experiment, extras.parent)
    check_before(history, targets, plan.config, plan.target, plan.before)
    paths, shell = history.paths, LocalShell()
    with ExitStack() as locks:
        snapshot_kept = locks.enter_context(ExitStack())
        with private():
            snapshot_kept.enter_context(SnapshotStore(paths.snapshots, shell).in_use())
            code = plan.code or take_code(paths, Path(plan.config.source_directory), shell)
        plan = replace(plan, code=code)
        record = intent(plan, extras)
        lock_fd = locks.enter_context(first_held(paths.run(record.id)))
        keep_parts(paths.run(record.id), plan)
        record, created = history.create(record)
        snapshot_kept.close()  # from here on there is a run that has it
        if not created:
            unmake(paths.run(plan.run_id))
            return record, False
        return send(history, targets, record, lock_fd, plan.secrets, watch), True


def send(
    history: History,
    targets: Targets,
    record: RunRecord,
    lock_fd: int,
    values: Mapping[str, Secret] | None,
    watch: Watch,
) -> RunRecord:
    """Send a run that is written down; its environment is waited for, and so is a lost answer."""
    try:
        record = carry_out(history, targets, record, lock_fd, values)
        seconds = LOOK if record.host is None else LOOK_FAR
        while record.submission["state"] == "preparing" and not record.state.final and watch(record):
            record = go_on(history, targets, record, lock_fd, values, seconds=seconds)
        return record
    except SubmissionAmbiguous:
        return settle(history, targets, record.id, lock_fd)


def keep_parts(home: RunPaths, plan: Plan) -> None:
    """Write what a run has beside its record: before its row, so that none is ever without it."""
    with private():
        home.folder.mkdir(exist_ok=True)
    if plan.code is not None and plan.code.diff:
        write(home.diff, plan.code.diff)
    if plan.call is not None:
        write_bytes(home.function, plan.call)
    if plan.builder:
        write(home.builder, plan.builder)


def intent(plan: Plan, extras: Extras) -> RunRecord:
    """The record of a run that is about to be submitted; ``plan.code`` is known by now."""
    assert plan.code is not None
    code, snapshot = plan.code, plan.code.snapshot
    return RunRecord(
        id=plan.run_id,
        experiment=plan.experiment,
        display_name=extras.display_name or plan.config.display_name,
        description=plan.config.description,
        type="script" if plan.call is None else "function",
        parent=extras.parent,
        state=RunState.NOT_STARTED,
        target=plan.config.compute_target,
        scheduler=plan.target.site.scheduler.type,
        run_dir=plan.run_dir,
        host=plan.target.place.host,
        key=extras.key,
        config={
            "yaml": plan.config_text,
            "asked": plan.asked_text,
            "resume_path": plan.resume_path,
            "inputs": plan.inputs,
            "processes": plan.layout.processes,
            "kind": plan.layout.kind,
            "secrets": secrets.references(plan.config),
            "sync": plan.config.sync.model_dump(mode="json", exclude_defaults=True),
            "settings": by_key(plan.config_text, "configuration"),
            **_made(plan),
            **({"given": [asdict(each) for each in plan.given]} if plan.given else {}),
        },
        snapshot={
            "id": snapshot.id,
            "files": snapshot.files,
            "bytes": snapshot.size,
            "diff": bool(code.diff),
            "notes": [*snapshot.notes, *_shown(plan, code)],
        },
        properties={**code.properties, **extras.properties},
        tags={**plan.config.tags, **extras.tags},
        notify=_notify(plan, extras),
        parameters={**from_arguments(_told(plan.config)), **extras.parameters},
        after=[{"run": each.run, "when": each.when} for each in plan.before],
        submission={"state": "intent", "began": utc_now(), "script": plan.script, "request": _request(plan)},
    )


def _told(config: ScriptRunConfig) -> Sequence[Value]:
    """The words that may name parameters: those of a command in bash's own words are known to bash alone."""
    return of_command(config.command) if isinstance(config.command, list) else config.arguments


def _notify(plan: Plan, extras: Extras) -> dict[str, Any]:
    """Of trials their sweep tells."""
    return {} if TRIAL in extras.properties else wishes(plan.config.notify)


def _made(plan: Plan) -> dict[str, Any]:
    """What the record knows of the environment, where hpcrun makes it."""
    return {} if plan.made is None else {"environment": told(plan.made, plan.target.site)}


def _shown(plan: Plan, code: Code) -> list[str]:
    return [
        f"git.diff, which is kept with the run, shows the value of the secret {name}"
        for name in secrets.seen_in(plan.secrets, code.diff)
    ]


def _request(plan: Plan) -> dict[str, Any]:
    return {
        "cpus": plan.layout.processes * plan.layout.cpus_per_task,
        "gpus": plan.layout.gpus_per_node,
        "time_limit": plan.time_limit,
        "hidden": secrets.sources(plan.config),
    }
