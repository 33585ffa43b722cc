"""Trials of a sweep, by the thousand: one look at the source, one script, one transaction, a few sbatch.

The configurations of trials differ in the values of their parameters alone. So one is prepared, with a mark
in the place of each value, and all others are that one with the marks replaced; it is tried on two of them
whether that comes to what they would be by themselves. Where it does not, or where a trial has something of
its own that no mark stands for, trials are submitted as any runs: :func:`hpcrun.engine.many.submit_many`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hpcrun.config.dump import yaml_word
from hpcrun.engine.code import Code, code_of, take_code
from hpcrun.engine.earlier import Earlier, earlier_runs
from hpcrun.engine.made_before import made_before
from hpcrun.engine.many import submit_many
from hpcrun.engine.packs import check_pack, with_job
from hpcrun.engine.prepare import Plan, file_names, prepare
from hpcrun.engine.submit import Extras, intent
from hpcrun.engine.tables import Submission, settle, table_held
from hpcrun.errors import SubmissionAmbiguous, SubmissionRejected
from hpcrun.history.creating import begun
from hpcrun.history.record import RunRecord, new_run_id, new_run_ids
from hpcrun.history.store import History
from hpcrun.history.tables import Line, Table, Value
from hpcrun.models.pack import Pack
from hpcrun.models.run import ScriptRunConfig
from hpcrun.places.table import is_plain
from hpcrun.places.writing import private
from hpcrun.shells.local import LocalShell
from hpcrun.snapshot import SnapshotStore
from hpcrun.sweeps.applying import apply
from hpcrun.targets import Targets

LARGEST = 10_000
"""Trials of one array at most, whatever the site allows."""

_PATIENCE = 180.0
"""Seconds that another process may take to submit what is to be submitted here."""


@dataclass(frozen=True)
class Trial:
    """A trial that is to be a run: its number in the sweep, its hyperparameters, and its key, of which there
    is one run."""

    number: int
    parameters: Mapping[str, Value]
    key: str


@dataclass
class _Common:
    """What all trials have."""

    history: History
    targets: Targets
    config: ScriptRunConfig
    parent: str
    experiment: str
    limit: int | None
    tags: dict[str, str]
    pass_as: str
    code: Code
    earlier: Earlier
    pack: Pack | None = None

    def plan(
        self, parameters: Mapping[str, Value], run_id: str | None = None, *, packed: bool = False
    ) -> Plan:
        config = apply(self.config, parameters, self.pass_as)
        return prepare(
            config, self.history.paths, self.targets,
            experiment=self.experiment, run_id=run_id, earlier=self.earlier, code=self.code, packed=packed,
        )  # fmt: skip

    def extras(self, trial: Trial) -> Extras:
        return Extras(
            key=trial.key, parent=self.parent, tags=self.tags,
            properties={"trial": str(trial.number)}, parameters=dict(trial.parameters),
        )  # fmt: skip


def submit_trials(
    history: History,
    targets: Targets,
    config: ScriptRunConfig,
    trials: Sequence[Trial],
    *,
    parent: str,
    experiment: str,
    limit: int | None,
    tags: dict[str, str],
    pass_as: str = "arguments",
    left: list[Trial] | None = None,
    go_on: Callable[[], bool] = lambda: True,
    pack: Pack | None = None,
) -> list[str]:
    """Submit trials as children of ``parent``, each exactly once by its key; their ids, in the same order.

    No more than ``limit`` of these run at once, as far as they are tasks of arrays, or in packs: with
    ``pack`` many of them share a job, but for those that have a value which no table can hold. With ``left``
    the others are put there, and not submitted. ``go_on`` says whether an environment that has to be made
    first is still waited for. Errors as :func:`hpcrun.engine.submit.submit`; where some are refused, those
    that follow are not submitted either.
    """
    known = history.trials.with_keys([trial.key for trial in trials])
    fresh = [trial for trial in trials if trial.key not in known]
    if not fresh:
        return [known[trial.key] for trial in trials]
    history.check_open(experiment, parent)
    paths, shell = history.paths, LocalShell()
    with ExitStack() as kept:
        with private():
            kept.enter_context(SnapshotStore(paths.snapshots, shell).in_use())
            owner = history.get(parent)
            same = owner.snapshot is not None
            code = code_of(paths, owner) if same else take_code(paths, Path(config.source_directory), shell)
        earlier = earlier_runs(history, config)
        code = replace(code, names=file_names(code, paths))
        common = _Common(
            history, targets, config, parent, experiment, limit, tags, pass_as, code, earlier, pack
        )  # fmt: skip
        known |= _submit(common, fresh, left, go_on)
    return [known[trial.key] for trial in trials if trial.key in known]


def _submit(
    common: _Common, trials: Sequence[Trial], left: list[Trial] | None, go_on: Callable[[], bool]
) -> dict[str, str]:
    """The ids, by key."""
    found: dict[str, str] = {}
    first = common.plan(trials[0].parameters)
    if common.pack is not None:
        check_pack(first)
    suits = common.pack is not None or _suits(first)
    job = made_before(common.targets, first, go_on)
    shared, alone = _sorted(trials) if suits else ([], list(trials))
    tables: list[Table] = []
    for group in shared:
        made = _tables(common, group, job)
        if made is None:
            alone += group
        else:
            tables += made
    if tables:
        keys = {line.key for table in tables for line in table.lines}
        found |= _submit_tables(common, first, _in_turn(tables), [t.key for t in trials if t.key in keys])
    alone.sort(key=trials.index)
    if left is not None:
        left += alone
    elif alone:
        records = submit_many(
            common.history,
            common.targets,
            [common.plan(trial.parameters) for trial in alone],
            [common.extras(trial) for trial in alone],
            max_concurrent=common.limit,
            fresh=True,
        )
        found |= {trial.key: record.id for trial, record in zip(alone, records, strict=True)}
    return found


def _suits(plan: Plan) -> bool:
    """Whether tasks can make the folders of such runs themselves."""
    site = plan.target.site.scheduler
    return (
        site.type == "slurm"
        and site.max_array_size > 1
        and plan.call is None
        and not plan.config.secrets
        and not plan.before
        and not plan.given
    )


def _sorted(trials: Sequence[Trial]) -> tuple[list[list[Trial]], list[Trial]]:
    """Trials of the same parameters each, and those that have a value that no mark can stand for."""
    groups: dict[tuple[str, ...], list[Trial]] = {}
    alone = []
    for trial in trials:
        if all(map(is_plain, trial.parameters.values())):
            groups.setdefault(tuple(trial.parameters), []).append(trial)
        else:
            alone.append(trial)
    return [group for group in groups.values() if len(group) > 1], [
        *alone, *(group[0] for group in groups.values() if len(group) == 1)
    ]  # fmt: skip


def _tables(common: _Common, trials: Sequence[Trial], job: str | None) -> list[Table] | None:
    """The tables of these trials; None where what they have in common is not all but their values."""
    run = new_run_id(common.experiment)
    names = list(trials[0].parameters)
    marks = [f"HPCRUN{at}x{run[-8:]}X" for at in range(len(names))]
    packed = common.pack is not None
    plan = common.plan(dict(zip(names, marks, strict=True)), run, packed=packed)
    record = begun(intent(plan, common.extras(Trial(0, {}, ""))))
    if job:
        record.submission["environment"] = {"job": job}
    record.submission.pop("script")
    texts = {value for trial in trials for value in trial.parameters.values() if isinstance(value, str)}
    ids = new_run_ids(common.experiment, len(trials))
    lines = [
        Line(run_id, 0, trial.number, trial.key, list(trial.parameters.values()))
        for run_id, trial in zip(ids, trials, strict=True)
    ]
    whole = Table(
        leader=lines[0].id, created=str(record.created), limit=common.limit, after="", run=run, names=names,
        marks=marks, form="text", words={text: word for text in texts if (word := yaml_word(text)) != text},
        template=json.loads(record.to_json()), script=plan.script, lines=lines,
    )  # fmt: skip
    in_json = replace(whole, form="json", marks=[f'"{mark}"' for mark in marks])
    for table in (in_json,) if common.pass_as == "file" else (whole, replace(whole, form="typed")):
        if all(_comes_to(common, table, at, trials[at]) for at in {0, len(lines) - 1}):
            if common.pack is None:
                return _cut(table, min(plan.target.site.scheduler.max_array_size, LARGEST))
            variables, paths = common.config.environment_variables, common.history.paths
            parts = _cut(table, min(common.pack.trials or LARGEST, LARGEST))
            return [with_job(part, plan, common.pack, variables, paths) for part in parts]
    return None


def _comes_to(common: _Common, table: Table, at: int, trial: Trial) -> bool:
    """Whether a trial's script and record are what they would be if it were submitted alone."""
    line = table.lines[at]
    plan = common.plan(trial.parameters, line.id, packed=common.pack is not None)
    alone, made = intent(plan, common.extras(trial)), table.record(at)
    return plan.script == table.text(table.script, line) and _known(alone) == _known(made)


def _known(record: RunRecord) -> dict[str, object]:
    """What a record says but for when it was made, and how it is submitted."""
    known: dict[str, object] = json.loads(record.to_json())
    return {key: value for key, value in known.items() if key not in ("created", "states", "submission")}


def _cut(table: Table, size: int) -> list[Table]:
    """Tables no larger than an array may be."""
    parts = (table.lines[first : first + size] for first in range(0, len(table.lines), size))
    return [replace(table, leader=lines[0].id, lines=lines) for lines in parts]


def _in_turn(tables: Sequence[Table]) -> list[Table]:
    """Where there is a limit of trials at once, one table after the other: it is that of an array."""
    pairs = zip(["", *(table.leader for table in tables)], tables, strict=False)
    return [replace(table, after=before if table.limit is not None else "") for before, table in pairs]


def _submit_tables(
    common: _Common, plan: Plan, tables: Sequence[Table], order: Sequence[str]
) -> dict[str, str]:
    beside = {}
    if common.code.diff:
        beside["git.diff"] = common.code.diff
    if plan.builder:
        beside["environment.sh"] = plan.builder
    with private():
        made, ids = common.history.trials.create(tables, order, beside)
    refused: SubmissionRejected | None = None
    for table in made:
        try:
            with _held(common.history, table) as lock_fd:
                _step(Submission(common.history, common.targets, table, lock_fd), refused)
        except SubmissionRejected as exc:
            refused = exc
    if refused is not None:
        raise refused
    return ids


def _step(submission: Submission, refused: SubmissionRejected | None) -> None:
    """Have a table submitted, unless one before it was refused. Raises SubmissionRejected, also where
    another process was told so; SubmissionAmbiguous, UnreachableError."""
    if refused is not None:
        raise submission.reject(refused)
    try:
        submission.step()
    except SubmissionAmbiguous:
        settle(submission)
    said = submission.state()
    if said.word == "rejected":
        raise SubmissionRejected(said.submission["message"], hint=said.submission.get("hint"))


@contextmanager
def _held(history: History, table: Table) -> Iterator[int]:
    """The submit lock, which another process may have that looks at the trials just now. Raises
    SubmissionPostponed where that was refused them for now."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        with table_held(history, table.leader) as lock_fd:
            if lock_fd is not None:
                yield lock_fd
                return
        if time.monotonic() > deadline:
            raise SubmissionAmbiguous(
                f"the trials of {table.leader} are being submitted by another process",
                hint=f"Look again: hpcrun show {table.leader}",
            )
        time.sleep(0.05)
