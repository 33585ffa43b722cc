"""Many runs at once: one look at the source, one snapshot, and where the site has arrays, one sbatch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from hpcrun.engine.arrays import carry_out_all, lead, settle_all
from hpcrun.engine.code import take_code
from hpcrun.engine.earlier import earlier_runs
from hpcrun.engine.prepare import Plan, prepare
from hpcrun.engine.sending import first_held
from hpcrun.engine.submit import Extras, intent, keep_parts, submit
from hpcrun.errors import SubmissionAmbiguous
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.launchers.tasks import shared_directives
from hpcrun.models.run import ScriptRunConfig
from hpcrun.places.writing import private
from hpcrun.shells.local import LocalShell
from hpcrun.snapshot import SnapshotStore
from hpcrun.targets import Targets

LARGEST = 5000
"""Tasks of one array at most, whatever the site allows: its script has a line for each."""

Pair = tuple[Plan, Extras]


def submit_configs(
    history: History,
    targets: Targets,
    configs: Sequence[ScriptRunConfig],
    experiment: str,
    tags: dict[str, str],
    max_concurrent: int | None = None,
) -> list[RunRecord]:
    """Check the configurations, all before anything is written, and submit them as the runs of a map."""
    if not configs:
        return []
    earlier = earlier_runs(history, configs[0])  # of which all say the same
    plans = [
        prepare(config, history.paths, targets, experiment=experiment, earlier=earlier) for config in configs
    ]
    extras = [
        Extras(tags=tags, properties={"map": plans[0].run_id, "map_index": str(index)})
        for index in range(len(plans))
    ]
    return submit_many(history, targets, plans, extras, max_concurrent=max_concurrent)


def submit_many(
    history: History,
    targets: Targets,
    plans: Sequence[Plan],
    extras: Sequence[Extras],
    *,
    max_concurrent: int | None = None,
    fresh: bool = False,
) -> list[RunRecord]:
    """Submit prepared runs of one source directory, each exactly once; their records, in the same order.

    Under Slurm runs that ask for the same are tasks of arrays, as large as the site allows, and no more than
    ``max_concurrent`` of each array run at once. Where some are refused, what came before them is submitted,
    and what comes after is not: errors as :func:`hpcrun.engine.submit.submit`. ``fresh``: no other process
    submits runs with their keys.
    """
    paths, shell = history.paths, LocalShell()
    with ExitStack() as kept:
        with private():
            kept.enter_context(SnapshotStore(paths.snapshots, shell).in_use())
            code = plans[0].code or take_code(paths, Path(plans[0].config.source_directory), shell)
        pairs = [
            (replace(plan, code=plan.code or code), more) for plan, more in zip(plans, extras, strict=True)
        ]
        found: list[RunRecord] = []
        for part in _parts(pairs, fresh):
            if len(part) == 1:
                found.append(submit(history, targets, *part[0])[0])
            else:
                found += _submit_array(history, targets, part, max_concurrent)
        return found


def _parts(pairs: Sequence[Pair], fresh: bool) -> Iterator[Sequence[Pair]]:
    """Runs that can be tasks of one array; one by one those that are to be jobs of their own."""
    for _, same in groupby(pairs, key=lambda pair: _kind(pair, fresh)):
        part = list(same)
        site = part[0][0].target.site.scheduler
        size = min(site.max_array_size, LARGEST) if site.type == "slurm" else 1
        if part[0][0].made is not None:  # one run waits until the environment is made, for all
            yield [part.pop(0)]
        for first in range(0, len(part), size):
            yield part[first : first + size]


def _kind(pair: Pair, fresh: bool) -> object:
    plan, extras = pair
    # What has a key may be there already, and what comes after other runs is told so one by one: neither is a
    # task of anything.
    alone = (extras.key if not fresh else None) or (plan.run_id if plan.before else None)
    return plan.target.name, shared_directives(plan.script), alone


def _submit_array(
    history: History, targets: Targets, pairs: Sequence[Pair], limit: int | None
) -> Iterable[RunRecord]:
    history.check_open(pairs[0][0].experiment, pairs[0][1].parent)
    records = [intent(plan, extras) for plan, extras in pairs]
    lead(records, limit)
    leader = records[0].id
    with first_held(history.paths.run(leader)) as lock_fd:
        for plan, _ in pairs:
            keep_parts(history.paths.run(plan.run_id), plan)
        records = list(history.create_all(records))
        try:
            carry_out_all(history, targets, records, lock_fd, pairs[0][0].secrets)
        except SubmissionAmbiguous:
            settle_all(history, targets, leader, lock_fd)
    return [history.get(record.id) for record in records]
