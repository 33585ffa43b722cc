"""Which run somebody means.

    ID             a whole id, its last part, or how it begins or ends; or a display name
    @-N            the N-th newest of the runs that ``hpcrun ls`` shows: @-1 is the newest
    @WORD          the newest of them that is so: a word of words.WORDS (last, failed, running, ended, …)
    @NAME:-N       the same among the runs of an experiment
    @NAME:WORD
    @NAME:N        the run N of an experiment, whatever it is
    @highest:M     the best by a metric, likewise @lowest:M and @best: see ranked.py

What ``ls`` shows is neither archived nor the child of another run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from hpcrun.errors import NotFoundError, UsageError
from hpcrun.history.database import Database
from hpcrun.history.index import ARCHIVED_EXPERIMENT, TOP
from hpcrun.history.record import RunRecord
from hpcrun.history.words import RANKED, WORDS

_RELATIVE = re.compile(r"@(?:([A-Za-z0-9][A-Za-z0-9_-]*):)?(?:(-?)([0-9]{1,15})|([A-Za-z]\w*))")
_SHOWN = 10


def resolve(database: Database, ref: str, records: Callable[[str], RunRecord]) -> str:
    """The id of the run that ``ref`` names; see :meth:`History.resolve`. ``records`` reads a run's record."""
    if any(word in ref.lower() for word in RANKED) and ref.startswith("@"):
        from hpcrun.history.ranked import resolve_ranked  # only where something is asked

        best = resolve_ranked(database, records, lambda name: known_experiment(database, name), ref)
        if best is not None:
            return best
    relative = _RELATIVE.fullmatch(ref)
    if relative and relative[3]:
        return _relative(database, ref, relative[1], relative[2] == "-", int(relative[3]))
    if relative and relative[4].lower() in WORDS:
        return _by_word(database, ref, relative[1], relative[4].lower())
    for found in _candidates(database, ref):
        if len(found) == 1:
            return found[0]
        if found:
            raise _ambiguous(ref, found)
    raise _no_such_word(database, ref, relative[1], relative[4]) if relative else not_found(database, ref)


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
    if newest:
        rows = _shown(database, experiment, "", number)
    else:
        rows = database.read("SELECT id FROM runs WHERE experiment = ? AND number = ?", [experiment, number])
    return _the_one(database, ref, experiment, rows, "no run")


def _by_word(database: Database, ref: str, experiment: str | None, word: str) -> str:
    condition, which = WORDS[word]
    rows = _shown(database, experiment, condition, 1)
    return _the_one(database, ref, experiment, rows, f"no run {which}:" if which else "no run")


def _shown(
    database: Database, experiment: str | None, condition: str, number: int
) -> list[tuple[object, ...]]:
    """The ``number``-th newest run that a list shows and for which the condition holds."""
    where = [TOP, "archived = 0", *([condition] if condition else [])]
    where.append(f"NOT {ARCHIVED_EXPERIMENT}" if experiment is None else "experiment = ?")
    sql = f"SELECT id FROM runs WHERE {' AND '.join(where)} ORDER BY seq DESC LIMIT 1 OFFSET ?"
    return database.read(sql, [*([] if experiment is None else [experiment]), number - 1])


def _the_one(
    database: Database, ref: str, experiment: str | None, rows: list[tuple[object, ...]], nothing: str
) -> str:
    if rows:
        return str(rows[0][0])
    if experiment is not None:
        known_experiment(database, experiment)
    place = "in this workspace" if experiment is None else f"in experiment {experiment!r}"
    raise NotFoundError(f"{nothing} {ref!r} {place}", hint="see which there are: hpcrun ls")


def _no_such_word(database: Database, ref: str, experiment: str | None, word: str) -> NotFoundError:
    """The error for ``@fialed``, ``@cifar`` and ``@cifar:best``."""
    import difflib

    names = {str(name): f"@{name}:last" for (name,) in database.read("SELECT DISTINCT experiment FROM runs")}
    head = "@" if experiment is None else f"@{experiment}:"
    known = {name: f"{head}{name}" for name in (*WORDS, *RANKED)} | (names if experiment is None else {})
    near = difflib.get_close_matches(word, known, n=2, cutoff=0.6)
    if near:
        hint = f"did you mean {' or '.join(known[name] for name in near)}?"
    else:
        hint = f"behind {head} go a number, as in {head}-1, or one of: {', '.join([*WORDS, *RANKED])}"
    return NotFoundError(f"no run {ref!r} in this workspace: no such word", hint=hint)


def _ambiguous(ref: str, found: list[str]) -> UsageError:
    lines = found[:_SHOWN] + (["…"] if len(found) > _SHOWN else [])
    return UsageError(
        f"{ref!r} may be any of these runs:\n  " + "\n  ".join(lines), hint="write more of the id"
    )
