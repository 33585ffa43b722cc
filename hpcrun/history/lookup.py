"""Which run somebody means: a whole id, a part of one, a display name, or ``@-1``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hpcrun.errors import NotFoundError, UsageError
from hpcrun.history.database import Database
from hpcrun.history.index import ARCHIVED_EXPERIMENT

_RELATIVE = re.compile(r"@(?:([A-Za-z0-9][A-Za-z0-9_-]*):)?(-?)([0-9]{1,15})")
_SHOWN = 10


def resolve(database: Database, ref: str) -> str:
    """The id of the run that ``ref`` names; see :meth:`History.resolve`."""
    if relative := _RELATIVE.fullmatch(ref):
        return _relative(database, ref, relative[1], relative[2] == "-", int(relative[3]))
    for found in _candidates(database, ref):
        if len(found) == 1:
            return found[0]
        if found:
            raise _ambiguous(ref, found)
    raise not_found(database, ref)


def not_found(database: Database, ref: str) -> NotFoundError:
    """The error for a run that is not there; its hint has the ids nearest to what was asked for."""
    import difflib  # only on the way to an error

    rows = database.read("SELECT id, display_name FROM runs ORDER BY seq DESC LIMIT 1000")
    names: dict[str, str] = {}
    for run_id, display_name in rows:
        for name in (run_id, str(run_id)[-8:], display_name):
            if name:
                names.setdefault(str(name), str(run_id))
    near = difflib.get_close_matches(ref, names, n=3, cutoff=0.6)
    ids = dict.fromkeys(names[name] for name in near)
    hint = f"did you mean {' or '.join(ids)}?" if ids else "see which there are: hpcrun ls"
    return NotFoundError(f"no run {ref!r} in this workspace", hint=hint)


def known_experiment(database: Database, name: str) -> str:
    """The name itself. Raises NotFoundError, with the nearest names, if there is no such experiment."""
    rows = database.read("SELECT experiment FROM runs UNION SELECT name FROM experiments WHERE archived")
    names = [str(known) for (known,) in rows]
    if name in names:
        return name
    import difflib

    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else "see which there are: hpcrun ls --all"
    raise NotFoundError(f"no experiment {name!r} in this workspace", hint=hint)


def _candidates(database: Database, ref: str) -> Iterable[list[str]]:
    """The runs a reference may mean, the surest reading first."""
    if not ref.isprintable() or not ref:
        return
    yield _ids(database, "id = ?", ref)
    # Two readings at once: neither a name nor a last part goes before the other without being asked.
    yield _ids(database, "display_name = ? OR substr(id, -8) = ?", ref, ref)
    yield _ids(database, "id > ? AND id < ?", ref, ref + "{")  # '{' comes after all that ids are made of
    yield _ids(database, "substr(id, -length(?)) = ?", ref, ref)


def _ids(database: Database, condition: str, *parameters: str) -> list[str]:
    sql = f"SELECT id FROM runs WHERE {condition} ORDER BY +seq DESC LIMIT {_SHOWN + 1}"
    return [str(run_id) for (run_id,) in database.read(sql, parameters)]


def _relative(database: Database, ref: str, experiment: str | None, newest: bool, number: int) -> str:
    if (not newest and experiment is None) or number == 0:
        raise UsageError(
            f"{ref!r} names no run",
            hint="@-1 is the newest run, @-2 the one before it; @NAME:-1 is the newest run of an experiment,"
            " @NAME:7 its run 7",
        )
    where = "archived = 0" if newest else "number = ?"
    parameters: list[object] = [] if newest else [number]
    if experiment is None:
        where += f" AND NOT {ARCHIVED_EXPERIMENT}"
    else:
        where += " AND experiment = ?"
        parameters.append(experiment)
    sql = f"SELECT id FROM runs WHERE {where} ORDER BY seq DESC LIMIT 1 OFFSET ?"
    rows = database.read(sql, [*parameters, number - 1 if newest else 0])
    if not rows:
        raise NotFoundError(f"no run {ref!r} in this workspace", hint="see which there are: hpcrun ls")
    return str(rows[0][0])


def _ambiguous(ref: str, found: list[str]) -> UsageError:
    lines = found[:_SHOWN] + (["…"] if len(found) > _SHOWN else [])
    return UsageError(
        f"{ref!r} may be any of these runs:\n  " + "\n  ".join(lines), hint="write more of the id"
    )
