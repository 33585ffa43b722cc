"""Files of a run, whether they came home or stayed on the machine where the run was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpcrun.engine.files import download, file_names
from hpcrun.engine.sync import OnPlan, fetch_some, left_there
from hpcrun.errors import CommandError, NotFoundError
from hpcrun.globs import matches
from hpcrun.history.store import History
from hpcrun.targets import Targets


def all_names(history: History, run_id: str) -> list[str]:
    """The names of the run's files, those too that were left on the target when it was last asked."""
    home = history.paths.run(run_id)
    here = file_names(home)
    return here + sorted(left_there(home).keys() - set(here))


def get_files(
    history: History,
    targets: Targets,
    run_id: str,
    patterns: Sequence[str] = (),
    folder: Path | None = None,
    on_plan: OnPlan | None = None,
) -> dict[str, Path]:
    """Where the files that fit a pattern (all without one) now lie, by name: in the run's own folder in the
    history, or, copied, in ``folder``.

    Raises NotFoundError if none fits, naming those there are; CommandError if one cannot be had.
    """
    home = history.paths.run(run_id)
    record = history.get(run_id)

    def wanted(name: str) -> bool:
        return not patterns or matches(name, patterns)

    home_already = record.host is None or (record.sync or {}).get("state") == "final"
    if not home_already:
        fetch_some(history, targets, run_id, wanted, on_plan)
    names = [name for name in all_names(history, run_id) if wanted(name)]
    if not names:
        known = all_names(history, run_id)
        shown = ", ".join(known[:20]) + (" …" if len(known) > 20 else "")
        what = (
            f"the run has no file that fits {' or '.join(patterns)}" if patterns else "the run has no files"
        )
        raise NotFoundError(what, hint=f"It has: {shown or 'none yet'}")
    left = left_there(home).keys() & set(names) - set(file_names(home))
    if left and home_already:
        fetch_some(history, targets, run_id, left.__contains__, on_plan)
        gone = sorted(left - set(file_names(home)))
        if gone:
            raise CommandError(f"{gone[0]} is no longer on {record.host}", hint="It was left there.")
    if folder is None:
        return {name: home.folder / name for name in names}
    return {name: download(home, name, folder / name) for name in names}
