"""What ``--where`` says, read into a tree.

    val_acc > 0.9 and (lr < 0.1 or not amp)       comparisons: = == != < <= > >=, chained too: 0.1 < lr < 1
    optimizer in ('adam', 'sgd')                  text stands in quotes, '…' or "…", doubled within: 'it''s'
    duration > 2h                                 numbers may have a unit of time: s, m, h, d, w
    min:val_loss < 0.3                            the least value of a metric; max:, count: likewise
    metric.lr  param.lr  tag.team                 which lr is meant, where it is not plain
    `val/acc top-1` > 0.5                         any name at all
    val_acc is none                               there is none

Nothing is computed: what stands here are names, values, and how they compare.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from hpcrun.errors import UsageError

MAX_TEXT, MAX_DEPTH, MAX_TESTS = 5000, 50, 200
"""Characters, parentheses and comparisons that are taken; SQLite has limits of its own."""

LAST, LEAST, MOST, COUNT = "last", "least", "most", "count"
_WHICH = {"last:": LAST, "min:": LEAST, "max:": MOST, "count:": COUNT}
_KINDS = {"metric.": "metric", "param.": "param", "tag.": "tag"}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_WORDS = {"and", "or", "not", "in", "is", "true", "false", "none", "null"}
_OPERATORS = {"==": "=", "<>": "!="}
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}
_PREFIX = r"(?:(?:metric|param|tag)\.|(?:last|min|max|count):)"
_TOKEN = re.compile(
    rf"""\s*(?:
    (?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?P<unit>[^\W\d_]*)(?![\w.]))
    |(?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    |(?P<name>(?P<prefix>{_PREFIX}*)(?:`(?P<ticked>[^`]+)`|(?P<bare>[^\W\d][\w./-]*)))
    |(?P<sign>==|!=|<>|<=|>=|=|<|>|\(|\)|\[|\]|,)
    )""",
    re.VERBOSE,
)
_SPEC = re.compile(r"(-?)(metric|param|min|max|last|count):(.+)", re.DOTALL)


@dataclass(frozen=True)
class Name:
    """A name: its ``kind`` (``metric``, ``param``, ``tag``, or empty where that is not said), which value of
    it, and its place in the text."""

    text: str
    kind: str = ""
    which: str = LAST
    at: int = 0


@dataclass(frozen=True)
class Literal:
    """A value; ``text`` is how it was written."""

    value: int | float | str
    text: str = ""
    at: int = 0


Operand = Name | Literal


@dataclass(frozen=True)
class Compare:
    left: Operand
    operator: str
    right: Operand


@dataclass(frozen=True)
class In:
    """One of some values. A bare word among them is a :class:`Name`."""

    name: Name
    values: tuple[Operand, ...]
    negated: bool = False


@dataclass(frozen=True)
class Is:
    """Whether there is such a thing; not, where ``none`` is asked for."""

    name: Name
    none: bool = True


@dataclass(frozen=True)
class Truth:
    """It is there, and neither false nor 0 nor empty."""

    name: Name


@dataclass(frozen=True)
class Not:
    inner: Condition


@dataclass(frozen=True)
class All:
    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Any_:
    parts: tuple[Condition, ...]


Condition = Compare | In | Is | Truth | Not | All | Any_


@dataclass(frozen=True)
class SortKey:
    """To sort by a metric or a parameter; the highest first, unless ``lowest``."""

    name: Name
    lowest: bool = False


def sort_key(text: str) -> SortKey | None:
    """``metric:NAME``, ``param:NAME``, ``min:NAME``, ``max:NAME``; with ``-`` before it the lowest first.
    None for what is none of these.

    >>> sort_key("-metric:loss").lowest
    True
    """
    spec = _SPEC.fullmatch(text)
    if spec is None:
        return None
    kind = "param" if spec[2] == "param" else "metric"
    return SortKey(Name(spec[3], kind, _WHICH.get(f"{spec[2]}:", LAST)), lowest=bool(spec[1]))


def named(text: str) -> Name:
    """A metric by its name, or ``min:NAME``, ``max:NAME``: the least or the most it has been."""
    key = sort_key(text)
    return Name(text, "metric") if key is None or key.lowest or key.name.kind == "param" else key.name


def mistake(text: str, at: int, words: str, hint: str = "") -> UsageError:
    """The error for what stands at a place of the text, which is pointed at."""
    shown, words = tame(text), tame(words)
    start = max(0, at - 60)
    line = shown[start : start + 100]
    return UsageError(f"--where: {words}\n  {line}\n  {' ' * (at - start)}^", hint=tame(hint) or None)


def tame(text: str) -> str:
    """Text as long as it was, with nothing in it that plays tricks on a terminal: names come from jobs."""
    return "".join(c if c.isprintable() else " " for c in text)


def parse(text: str) -> Condition:
    """The tree of an expression. Raises UsageError, which points at what is wrong."""
    if len(text) > MAX_TEXT:
        raise UsageError(f"--where takes {MAX_TEXT} characters at most, and not {len(text)}")
    return _Parser(text).whole()


def names_in(condition: Condition) -> Iterator[Name]:
    """All names of a tree, in their order."""
    if isinstance(condition, (All, Any_)):
        for part in condition.parts:
            yield from names_in(part)
    elif isinstance(condition, Not):
        yield from names_in(condition.inner)
    elif isinstance(condition, Compare):
        yield from (side for side in (condition.left, condition.right) if isinstance(side, Name))
    else:
        yield condition.name


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int
    operand: Operand | None = None


def _tokens(text: str) -> Iterator[_Token]:
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise _unreadable(text, at)
        kind = next(each for each in ("number", "text", "name", "sign") if found[each] is not None)
        start, word = found.start(kind), found[kind]
        if kind == "number":
            yield _Token(kind, word, start, Literal(_number(text, start, word, found["unit"]), word, start))
        elif kind == "text":
            inner = word[1:-1].replace(word[0] * 2, word[0])
            yield _Token(kind, word, start, Literal(inner, inner, start))
        elif kind == "name" and word.lower() in _WORDS:
            yield _word(word, start)
        elif kind == "name":
            yield _Token(kind, word, start, _name(text, start, found))
        else:
            yield _Token(kind, _OPERATORS.get(word, word), start)
        at = found.end()
    yield _Token("end", "", end)


def _word(word: str, at: int) -> _Token:
    if word.lower() in ("true", "false"):
        return _Token("value", word, at, Literal(int(word.lower() == "true"), word, at))
    return _Token("none" if word.lower() == "null" else word.lower(), word, at)


def _name(text: str, at: int, found: re.Match[str]) -> Name:
    name = Name(found["ticked"] or found["bare"], at=at)
    for prefix in re.findall(_PREFIX, found["prefix"]):
        if prefix in _KINDS:
            if name.kind:
                raise mistake(text, at, "one of metric., param. and tag. is enough")
            name = replace(name, kind=_KINDS[prefix])
        elif name.which != LAST:
            raise mistake(text, at, "one of min:, max: and count: is enough")
        else:
            name = replace(name, which=_WHICH[prefix])
    if name.which != LAST and name.kind not in ("", "metric"):
        raise mistake(text, at, "min:, max: and count: are of metrics")
    return name


def _number(text: str, at: int, word: str, unit: str) -> int | float:
    if unit and unit not in _SECONDS:
        hint = "units are s, m, h, d and w; text stands in quotes, a name that begins with a digit in `…`"
        raise mistake(text, at, f"no number: {word}", hint)
    if unit:
        return float(word.removesuffix(unit)) * _SECONDS[unit]
    return int(word) if _WHOLE.fullmatch(word) else float(word)


def _unreadable(text: str, at: int) -> UsageError:
    if text[at] in "'\"`":
        what = "a name" if text[at] == "`" else "text"
        return mistake(text, at, f"{what} that has no end: {text[at]} is missing")
    hints = {"&": "write: and", "|": "write: or", "!": "write: not"}
    usual = "a name with other characters than letters, digits and _ - . / stands in `…`, text in quotes"
    return mistake(text, at, f"unexpected {text[at]!r}", hints.get(text[at], usual))


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._left = text, [*_tokens(text)][::-1]
        self._depth = self._tests = 0

    def whole(self) -> Condition:
        found = self._any()
        if self._next.kind != "end":
            if self._next.text == ")":
                raise self._wrong("there is no ( for this )")
            raise self._wrong("expected and, or, or the end here")
        return found

    @property
    def _next(self) -> _Token:
        return self._left[-1]

    def _take(self, *words: str) -> bool:
        """Go past the next word, if it is one of these."""
        token = self._next
        if (token.kind if token.kind in _WORDS else token.text if token.kind == "sign" else "") not in words:
            return False
        self._left.pop()
        return True

    def _wrong(self, words: str, hint: str = "") -> UsageError:
        return mistake(self._text, self._next.at, words, hint)

    def _any(self) -> Condition:
        parts = [self._all()]
        while self._take("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else Any_(tuple(parts))

    def _all(self) -> Condition:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _one(self) -> Condition:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._wrong(f"more than {MAX_DEPTH} within one another are too many")
        found: Condition
        if self._take("not"):
            found = Not(self._one())
        elif self._take("("):
            found = self._any()
            if not self._take(")"):
                raise self._wrong("expected ) here")
        else:
            found = self._test()
        self._depth -= 1
        return found

    def _test(self) -> Condition:
        self._tests += 1
        if self._tests > MAX_TESTS:
            raise self._wrong(f"more than {MAX_TESTS} comparisons are too many")
        left = self._operand()
        if isinstance(left, Name):
            negated = self._next.kind == "not"
            if negated:
                self._left.pop()
            if self._take("in"):
                return In(left, self._values(), negated)
            if negated:
                raise self._wrong("expected in here")
            if self._take("is"):
                return self._is(left)
        pairs: list[Condition] = []
        while self._next.kind == "sign" and self._next.text in _FLIPPED:
            operator = self._left.pop().text
            right = self._operand()
            pairs.append(self._compare(left, operator, right))
            left = right
        if pairs:
            return pairs[0] if len(pairs) == 1 else All(tuple(pairs))
        if isinstance(left, Literal):
            raise self._wrong("expected a comparison here: < <= > >= = !=")
        return Truth(left)

    def _compare(self, left: Operand, operator: str, right: Operand) -> Condition:
        """A name on the left, if there is one."""
        if isinstance(left, Literal):
            if isinstance(right, Literal):
                raise mistake(self._text, right.at, "two values are compared, and no name of anything")
            return Compare(right, _FLIPPED[operator], left)
        return Compare(left, operator, right)

    def _is(self, name: Name) -> Condition:
        negated = self._take("not")
        if not self._take("none", "null"):
            raise self._wrong("expected none here", "is asks whether there is one: is none, is not none")
        return Is(name, none=not negated)

    def _values(self) -> tuple[Operand, ...]:
        close = ")" if self._take("(") else "]" if self._take("[") else ""
        if not close:
            raise self._wrong("expected values in ( ) here")
        values = [self._operand()]
        while self._take(","):
            values.append(self._operand())
        if not self._take(close):
            raise self._wrong(f"expected , or {close} here")
        if len(values) > MAX_TESTS:
            raise self._wrong(f"more than {MAX_TESTS} values are too many")
        return tuple(values)

    def _operand(self) -> Operand:
        operand = self._next.operand
        if operand is None:
            what = "the end" if self._next.kind == "end" else repr(self._next.text)
            raise self._wrong(f"expected a name or a value here, found {what}")
        self._left.pop()
        return operand
