"""What a run's processes have printed until now, wherever the run is."""

from __future__ import annotations

from collections.abc import Collection

from hpcrun.engine.logs import Line, LogReader, check_ranks, merged
from hpcrun.errors import HpcrunError
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.targets import Targets


def have_logs(history: History, targets: Targets, record: RunRecord) -> HpcrunError | None:
    """Have what a run on another machine has written until now here, unless all of it is; what is in the way,
    if anything is."""
    home = history.paths.run(record.id)
    if record.host is None or (record.state.final and LogReader(home).any_there()):
        return None
    from hpcrun.engine.follow import fetch
    from hpcrun.engine.wait import far_target

    target = far_target(targets, record)
    if target is None or target.remote is None:
        return None
    try:
        fetch(target.remote, target.remote.host, record.run_dir, home)
    except HpcrunError as error:
        return error
    return None


def log_lines(
    history: History, targets: Targets, record: RunRecord, ranks: Collection[int] | None, merge: bool
) -> list[Line]:
    """Raises UsageError for ranks that the run does not have, and what :func:`have_logs` found in the way."""
    if ranks is not None:
        check_ranks(record, ranks)
    error = have_logs(history, targets, record)
    if error is not None:
        raise error
    lines = LogReader(history.paths.run(record.id), ranks).read(to_end=True)
    return merged(lines) if merge else list(lines)
