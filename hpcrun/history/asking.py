"""Questions about metrics and parameters, in SQL: every name and every value is bound, none is written out.

A comparison is true or false, and false for what is not there. Which runs have a metric or a parameter for
which it holds is looked up in the index of that, unless these are so many that it is quicker to go from run
to run until there are enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone

from hpcrun.errors import UsageError
from hpcrun.history.index import SORTS, Along, Asked
from hpcrun.history.words import STATES
from hpcrun.metrics.where import (
    COUNT,
    LAST,
    All,
    Any_,
    Compare,
    Condition,
    In,
    Is,
    Literal,
    Name,
    Not,
    Operand,
    mistake,
    parse,
    sort_key,
    tame,
)

Read = Callable[[str, Sequence[object]], Sequence[Sequence[object]]]

_TOOK = "(julianday(coalesce(runs.ended, 'now')) - julianday(runs.started)) * 86400.0"
_AGE = "(julianday('now') - julianday(runs.created)) * 86400.0"
NUMBER, TEXT, TIME, STATE = "a number", "text", "a time", "a state"
COLUMNS: dict[str, tuple[str, str]] = {
    "state": ("runs.state", STATE),
    **{name: (f"runs.{name}", TEXT) for name in ("id", "experiment", "type", "reason", "message", "target")},
    **{name: (f"runs.{name}", TEXT) for name in ("scheduler", "job_id", "key", "parent")},
    "name": ("runs.display_name", TEXT),
    "display_name": ("runs.display_name", TEXT),
    **{name: (f"runs.{name}", NUMBER) for name in ("number", "exit_code", "archived")},
    "duration": (_TOOK, NUMBER),
    "age": (_AGE, NUMBER),
    **{name: (f"runs.{name}", TIME) for name in ("created", "submitted", "started", "ended")},
}
"""What there is to ask of any run, by its word: in SQL, and what it is compared with."""

_TABLES = {
    "metric": "SELECT run FROM metrics WHERE name = ?",
    "param": "SELECT run FROM parameters WHERE name = ?",
    "tag": "SELECT run FROM tags WHERE key = ?",
}
_MANY, _LOOKS = 20_000, 20
"""So many runs are many; and in so many comparisons they are counted."""


def asked(text: str, read: Read) -> Asked:
    """The condition of an expression. ``read`` asks the index which names there are.

    Raises UsageError for what cannot be read, for a name that nothing has, and for one that is a metric as
    well as a parameter: which is meant must be said.
    """
    found = _Compiler(text, read)
    sql, values = found.condition(parse(text))
    return Asked(sql, values, found.names)


def sorted_by(sort: str, read: Read) -> Along:
    """How to go along a metric or a parameter: the runs that have a number there, and no others. Raises
    UsageError for what names none, and where no run has it."""
    key = sort_key(sort)
    if key is None:
        raise UsageError(
            f"nothing is sorted by {sort!r:.300}",
            hint=f"there are {', '.join(SORTS)}, metric:NAME and param:NAME (-metric:NAME: lowest first)",
        )
    known_name(read, key.name)
    table, column = ("metrics", key.name.which) if key.name.kind == "metric" else ("parameters", "value")
    condition = f"asked.run = runs.seq AND asked.name = ? AND asked.{column} < ''"
    way = "" if key.lowest else " DESC"
    return Along(condition, [key.name.text], f"{table} AS asked", f"asked.{column}{way}, asked.run DESC")


def names_there(read: Read, table: str) -> list[str]:
    """All names of metrics or parameters, by way of the index: a step for each."""
    rows = read(
        f"WITH RECURSIVE there (name) AS (SELECT min(name) FROM {table} UNION ALL"
        f" SELECT (SELECT min(name) FROM {table} WHERE name > there.name) FROM there"
        " WHERE there.name IS NOT NULL LIMIT 10000) SELECT name FROM there WHERE name IS NOT NULL",
        [],
    )
    return [str(name) for (name,) in rows]


class _Compiler:
    def __init__(self, text: str, read: Read) -> None:
        self._text, self._read = text, read
        self._known: dict[tuple[str, bool], str] = {}
        self._looks = 0
        self.names: list[Name] = []

    def condition(self, tree: Condition) -> tuple[str, list[object]]:
        if isinstance(tree, (All, Any_)):
            parts = [self.condition(part) for part in tree.parts]
            word = " AND " if isinstance(tree, All) else " OR "
            return f"({word.join(sql for sql, _ in parts)})", [v for _, values in parts for v in values]
        if isinstance(tree, Not):
            sql, values = self.condition(tree.inner)
            return f"NOT {sql}", values
        if isinstance(tree, In):
            return self._in(tree)
        if isinstance(tree, Compare):
            return self._compare(tree)
        kind = self._kind(tree.name)
        if isinstance(tree, Is):
            word = "NOT " if tree.none else ""
            if kind == "column":
                return f"{word}({COLUMNS[tree.name.text][0]} IS NOT NULL)", []
            return f"{word}(runs.seq IN ({_TABLES[kind]}))", [tree.name.text]
        if kind == "column":
            return f"(coalesce(+{COLUMNS[tree.name.text][0]} NOT IN (0, ''), 0))", []
        return self._among(tree.name, kind, "{} NOT IN (0, '')", [])

    def _kind(self, name: Name) -> str:
        """Of what kind a name is: one of those in ``_TABLES``, or ``column``."""
        metric = name.which != LAST  # nothing else has a least and a most
        if not name.kind and not metric and name.text in COLUMNS:
            return "column"
        kind = name.kind or self._known.get((name.text, metric)) or self._found(name, metric)
        if not name.kind:
            self._known[name.text, metric] = kind
        same = Name(name.text, kind, name.which)
        if kind != "tag" and same not in self.names:
            self.names.append(same)
        return kind

    def _found(self, name: Name, metric: bool) -> str:
        tables = {"metric": "metrics"} if metric else {"metric": "metrics", "param": "parameters"}
        there = [
            kind
            for kind, table in tables.items()
            if self._read(f"SELECT 1 FROM {table} WHERE name = ? LIMIT 1", [name.text])
        ]
        if len(there) == 1:
            return there[0]
        if there:
            shown = name.text if name.text.isidentifier() else f"`{name.text}`"
            words = f"{name.text} is a metric as well as a parameter"
            raise mistake(self._text, name.at, words, f"write metric.{shown} or param.{shown}")
        import difflib  # only on the way to an error

        known = {name for table in tables.values() for name in names_there(self._read, table)}
        known |= set() if metric else {*COLUMNS}
        near = difflib.get_close_matches(name.text, known, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else "text stands in quotes: '…'"
        what = "metric" if metric else "metric, parameter or column"
        raise mistake(self._text, name.at, f"no {what} of any run is called {name.text}", hint)

    def _compare(self, tree: Compare) -> tuple[str, list[object]]:
        left, operator, right = tree.left, tree.operator, tree.right
        assert isinstance(left, Name)
        kind = self._kind(left)
        if kind == "column" and COLUMNS[left.text][1] == STATE:
            if operator not in ("=", "!="):
                raise mistake(self._text, left.at, "a state is = or != another")
            return self._states([right], operator == "!=")
        if isinstance(right, Name):
            return self._two(left, operator, right)
        value = self._value(left, kind, right)
        if kind == "column":
            return f"(coalesce(+{COLUMNS[left.text][0]} {operator} ?, 0))", [value]
        if left.which not in (LAST,) and isinstance(value, str):  # those are numbers
            value, operator = None, "=" if operator != "!=" else "IS NOT"
        # In SQLite every number is less than every text; here neither is less than the other.
        bound = ""
        if operator in (">", ">=") and not isinstance(value, str):
            bound = " AND {0} < ''"
        elif operator in ("<", "<=") and isinstance(value, str):
            bound = " AND {0} >= ''"
        return self._among(left, kind, f"{{0}} {operator} ?{bound}", [value])

    def _among(self, name: Name, kind: str, test: str, values: list[object]) -> tuple[str, list[object]]:
        """The runs that have a value for which the test holds: where these are few, their list, and where
        they are many a look at each run that is walked through, of which the first ones will do."""
        query = f"{_TABLES[kind]} AND {test.format(_column(name, kind))}"
        values = [name.text, *values]
        self._looks += 1
        many = f"SELECT count(*) FROM ({query} LIMIT {_MANY})"
        if self._looks > _LOOKS or self._read(many, values)[0][0] != _MANY:
            return f"(runs.seq IN ({query}))", values
        # The sign keeps SQLite to the primary key, which finds the one row of the run.
        look = f"{_TABLES[kind]} AND run = runs.seq AND {test.format('+' + _column(name, kind))}"
        return f"(EXISTS ({look}))", values

    def _two(self, left: Name, operator: str, right: Name) -> tuple[str, list[object]]:
        """Two names that are compared, run by run."""
        (one, first), (other, second) = self._expression(left), self._expression(right)
        alike = ""
        values = [*first, *second]
        if operator not in ("=", "!="):
            alike = f" AND (typeof({one}) = 'text') = (typeof({other}) = 'text')"
            values += values
        return f"(coalesce({one} {operator} {other}{alike}, 0))", values

    def _expression(self, name: Name) -> tuple[str, list[object]]:
        kind = self._kind(name)
        if kind == "column":
            return f"+{COLUMNS[name.text][0]}", []
        return f"+({_TABLES[kind].replace('run ', _column(name, kind) + ' ', 1)} AND run = runs.seq)", [
            name.text
        ]

    def _in(self, tree: In) -> tuple[str, list[object]]:
        kind = self._kind(tree.name)
        if kind == "column" and COLUMNS[tree.name.text][1] == STATE:
            return self._states(tree.values, tree.negated)
        values: list[object] = []
        for each in tree.values:
            if isinstance(each, Name):
                raise mistake(self._text, each.at, "expected a value here", "text stands in quotes: '…'")
            values.append(self._value(tree.name, kind, each))
        word = f"{'NOT ' if tree.negated else ''}IN ({', '.join('?' * len(values))})"
        if kind == "column":
            return f"(coalesce(+{COLUMNS[tree.name.text][0]} {word}, 0))", values
        # Without a sign before it, least and most would take text that looks like a number for one.
        return self._among(tree.name, kind, f"+{{}} {word}", values)

    def _states(self, words: Iterable[Operand], negated: bool) -> tuple[str, list[object]]:
        values: list[object] = []
        for word in words:
            text = word.text if isinstance(word, Name) else str(word.value)
            if text.lower() not in STATES or (isinstance(word, Name) and word.kind):
                hint = f"there are {', '.join(STATES)}"
                raise mistake(self._text, word.at, f"no run is ever {text!r}", hint)
            values += [state.value for state in STATES[text.lower()]]
        return f"(runs.state {'NOT ' if negated else ''}IN ({', '.join('?' * len(values))}))", values

    def _value(self, name: Name, kind: str, literal: Literal) -> object:
        """What a name is compared with, as the index holds it. Raises UsageError."""
        wanted = COLUMNS[name.text][1] if kind == "column" else TEXT if kind == "tag" else ""
        if wanted == NUMBER and isinstance(literal.value, str):
            raise mistake(self._text, literal.at, f"{name.text} is a number, and is compared with one")
        if wanted == TEXT:
            return str(literal.value) if isinstance(literal.value, str) else literal.text
        return self._time(literal) if wanted == TIME else literal.value

    def _time(self, literal: Literal) -> str:
        try:
            at = datetime.fromisoformat(literal.text.strip().replace("Z", "+00:00"))
            return at.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        except (ValueError, OverflowError):
            hint = "or ask for the age: age < 2d"
            words = "expected a time such as '2026-11-01' or '2026-11-01 12:00'"
            raise mistake(self._text, literal.at, words, hint) from None


def _column(name: Name, kind: str) -> str:
    if kind != "metric":
        return "value"
    return COUNT if name.which == COUNT else name.which


def known_name(read: Read, name: Name) -> None:
    """Raises UsageError where no run has such a metric or parameter."""
    table, what = ("metrics", "metric") if name.kind == "metric" else ("parameters", "parameter")
    if read(f"SELECT 1 FROM {table} WHERE name = ? LIMIT 1", [name.text]):
        return
    import difflib

    near = difflib.get_close_matches(name.text, names_there(read, table), n=3, cutoff=0.6)
    hint = tame(f"did you mean {' or '.join(near)}?") if near else None
    raise UsageError(f"no run has a {what} called {name.text!r:.300}", hint=hint)
