"""Many runs at once: one look at the source, and one snapshot for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from hpcrun.engine.code import take_code
from hpcrun.engine.prepare import Plan
from hpcrun.engine.submit import Extras, submit
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.places.writing import private
from hpcrun.shells.local import LocalShell
from hpcrun.snapshot import SnapshotStore
from hpcrun.targets import Targets


def submit_many(
    history: History, targets: Targets, plans: Sequence[Plan], extras: Sequence[Extras]
) -> list[RunRecord]:
    """Submit prepared runs of one source directory, each exactly once; their records, in the same order.

    Where one is refused, those before it are submitted, and those after it are not: errors as
    :func:`hpcrun.engine.submit.submit`.
    """
    paths, shell = history.paths, LocalShell()
    with ExitStack() as kept:
        with private():
            kept.enter_context(SnapshotStore(paths.snapshots, shell).in_use())
            code = plans[0].code or take_code(paths, Path(plans[0].config.source_directory), shell)
        return [
            submit(history, targets, replace(plan, code=plan.code or code), more)[0]
            for plan, more in zip(plans, extras, strict=True)
        ]
