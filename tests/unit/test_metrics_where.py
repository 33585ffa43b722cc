"""Questions about metrics and parameters: how they are read, and that SQL answers what Python would."""

from __future__ import annotations

import itertools
import math
import operator
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcrun.errors import UsageError
from hpcrun.history import asking
from hpcrun.history.measures import File
from hpcrun.history.store import History
from hpcrun.metrics.reading import Point
from hpcrun.metrics.sums import Look, Mark, Sum
from hpcrun.metrics.where import (
    All,
    Any_,
    Compare,
    Condition,
    In,
    Is,
    Literal,
    Name,
    Not,
    Truth,
    parse,
    sort_key,
)
from hpcrun.states import RunState
from tests.unit.test_history_store import make


def measured(history: History, run_id: str, metrics: dict[str, Any]) -> None:
    """Put metrics into the index: each value, or each of a list of them, in turn."""
    sums: dict[str, Sum] = {}
    for name, values in metrics.items():
        for step, value in enumerate(values if isinstance(values, list) else [values]):
            sums.setdefault(name, Sum(0)).add(Point(name, value, 1.0, step, "scalar", 0, 1))
    history.take_in_metrics([(run_id, [File(0, Mark(), Look(Mark(1, 1), sums))])])


RUNS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "a": ({"acc": 0.95, "loss": [0.9, 0.2]}, {"lr": 0.01, "opt": "adam", "amp": True}, {}),
    "b": ({"acc": 0.85, "loss": [0.1, 0.3]}, {"lr": 0.5, "opt": "sgd", "amp": False}, {}),
    "c": ({"acc": math.nan, "loss": [0.5, math.nan]}, {"lr": 0.01}, {"tags": {"team": "x"}}),
    "d": ({"acc": "high", "odd name's": 1}, {"lr": "auto", "n": 3, "layers": "64 64"}, {}),
    "e": ({}, {}, {"experiment": "other", "display_name": "first try"}),
    "f": ({"acc": math.inf, "both": 2}, {"both": 1, "lr": 1, "depth": 18}, {}),
}


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with History.open(tmp_path_factory.mktemp("asked") / ".hpcrun", create=True) as opened:
        for key, (metrics, parameters, more) in RUNS.items():
            run, _ = opened.create(make(key=key, parameters=parameters, **more))
            measured(opened, run.id, metrics)
            if key in "ab":
                opened.update(run.id, lambda record: setattr(record, "state", RunState.CANCELED))
        yield opened


@pytest.mark.parametrize(
    ("where", "keys"),
    [
        ("acc > 0.9", "af"), ("acc>0.9 and lr<0.1", "a"), ("acc >= 0.85", "abf"), ("0.9 <= acc", "af"),
        ("0.8 < acc < 0.9", "b"), ("acc = 'high'", "d"), ("acc == \"high\"", "d"), ("acc < 1", "ab"),
        ("acc != 0.95", "bdf"), ("acc <> 0.95", "bdf"), ("not acc > 0.9", "bcde"), ("acc", "abdf"),
        ("acc is none", "e"), ("acc is not none", "abcdf"), ("acc IS NOT NULL", "abcdf"), ("acc > 'a'", "d"),
        ("acc > 1e308", "f"), ("acc > 'x'", ""), ("acc < 'x'", "d"),
        ("min:loss <= 0.1", "b"), ("max:loss > 0.8", "a"), ("loss > 0.25", "b"), ("count:loss = 2", "abc"),
        ("min:loss < 0.6", "abc"), ("max:metric.loss = 0.5", "c"), ("min:loss = '0.1'", ""),
        ("min:loss != '0.1'", "abc"), ("min:loss in ('0.1', 0.2)", "a"),
        ("lr < 0.1", "ac"), ("param.lr < 0.1", "ac"), ("lr = 'auto'", "d"), ("lr in (0.01, 'auto')", "acd"),
        ("lr not in (0.01, 'auto')", "bf"), ("not lr in (0.01, 'auto')", "bef"), ("opt in ['adam']", "a"),
        ("amp", "a"), ("amp = true", "a"), ("amp = FALSE", "b"), ("not amp", "bcdef"),
        ("opt = 'adam' or opt = 'sgd' and lr > 1", "a"), ("(opt = 'adam' or opt = 'sgd') and lr > 0.1", "b"),
        ("`odd name's` = 1", "d"), ("layers = '64 64'", "d"), ("depth > 17 AND depth <= 18", "f"),
        ("metric.both > param.both", "f"), ("metric.both = 2", "f"), ("param.both = 2", ""),
        ("acc > lr", "abdf"), ("acc < lr", ""), ("acc != lr", "abdf"), ("metric.never > 1", ""),
        ("not param.never = 1", "abcdef"),
        ("state = canceled", "ab"), ("state = 'Canceled'", "ab"), ("state != Ended", "cdef"),
        ("state in (canceled, 'notstarted')", "abcdef"), ("state not in (active)", "ab"),
        ("experiment = 'other'", "e"), ("name = 'first try'", "e"), ("name", "e"), ("number > 3", "df"),
        ("key = 'a'", "a"), ("tag.team = 'x'", "c"), ("tag.team", "c"), ("tag.team is none", "abdef"),
        ("age < 2d", "abcdef"), ("created > '2020-01-01' and created < '2100-01-01 12:00'", "abcdef"),
        ("age > 1.5h", ""), ("duration > 1h", ""), ("exit_code = 0", ""), ("job_id = 5", ""),
        ("lr = +.01", "ac"), ("lr > -1", "abcf"), ("lr = 1.0", "f"), ("opt > 'b'", "b"), ("opt < 'b'", "a"),
    ],
)  # fmt: skip
def test_answers(history: History, where: str, keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "".join(sorted(str(row.key) for row in history.list(where=where, limit=None))) == keys
    monkeypatch.setattr(asking, "_MANY", 1)
    found = history.list(where=where, limit=None)
    assert "".join(sorted(str(row.key) for row in found)) == keys


@pytest.mark.parametrize(
    ("where", "at", "words"),
    [
        ("acc >> 0.9", 5, "expected a name or a value here, found '>'"),
        ("acc >", 5, "found the end"),
        ("", 0, "found the end"),
        ("(acc > 1", 8, "expected ) here"),
        ("acc > 1)", 7, "there is no ( for this"),
        ("acc > 1 lr < 2", 8, "expected and, or, or the end"),
        ("acc > 1 && lr < 2", 8, "unexpected '&'"),
        ("acc > 5x", 6, "no number: 5x"),
        ("opt = 'adam", 6, "' is missing"),
        ("`opt = 1", 0, "` is missing"),
        ("1 < 2", 4, "two values"),
        ("5", 1, "expected a comparison"),
        ("acc in 5", 7, "expected values in ( )"),
        ("acc in (5", 9, "expected , or ) here"),
        ("acc not 5", 8, "expected in here"),
        ("acc is 5", 7, "expected none here"),
        ("acc in (lr)", 8, "expected a value here"),
        ("metric.param.x > 1", 0, "one of metric., param. and tag."),
        ("min:max:x > 1", 0, "one of min:, max: and count:"),
        ("min:param.lr > 1", 0, "are of metrics"),
        ("ac > 1", 0, "no metric, parameter or column of any run is called ac"),
        ("acc > 1 and min:lr > 1", 12, "no metric of any run is called lr"),
        ("max:state > 1", 0, "no metric of any run is called state"),
        ("lr > 1 and both > 1", 11, "a metric as well as a parameter"),
        ("metric.both = 2 and both = 1", 20, "a metric as well as a parameter"),
        ("state = faild", 8, "no run is ever 'faild'"),
        ("state < failed", 0, "a state is"),
        ("number = 'x'", 9, "is a number"),
        ("created > 'monday'", 10, "expected a time"),
        ("a;drop table runs", 1, "unexpected ';'"),
        ("((((" * 20 + "a", 50, "within one another"),
        ("not " * 60 + "a", 200, "within one another"),
    ],
)
def test_mistakes_are_pointed_at(history: History, where: str, at: int, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        history.list(where=where)
    said, line, caret = caught.value.message.split("\n")
    assert words in said
    start = max(0, at - 60)
    assert line[2:] == where[start : start + 100]
    assert caret == " " * (2 + at - start) + "^"


def test_names_that_are_near(history: History) -> None:
    with pytest.raises(UsageError) as caught:
        history.list(where="los < 1")
    assert caught.value.hint == "did you mean loss?"
    with pytest.raises(UsageError) as caught:
        history.list(where="both = 1")
    assert caught.value.hint == "write metric.both or param.both"
    with pytest.raises(UsageError, match="no run has a metric called 'ac'") as caught:
        history.list(sort="metric:ac")
    assert caught.value.hint == "did you mean acc?"
    with pytest.raises(UsageError, match="nothing is sorted by 'colour'"):
        history.list(sort="colour")


def test_names_play_no_tricks_on_a_terminal(tmp_path: Path) -> None:
    with History.open(tmp_path / ".hpcrun", create=True) as history:
        run, _ = history.create(make())
        measured(history, run.id, {"lo\x1b[2Jss": 1})
        for asked in ({"where": "`lo[2Jss` > 1"}, {"where": "`lo\x1b[2J` > 1"}, {"sort": "metric:lo[2Jss"}):
            with pytest.raises(UsageError) as caught:
                history.list(**asked)  # type: ignore[arg-type]
            assert "\x1b" not in str(caught.value) + str(caught.value.hint)
            assert "did you mean lo [2Jss?" in str(caught.value.hint)


def test_limits() -> None:
    with pytest.raises(UsageError, match="characters at most"):
        parse("a" * 6000)
    with pytest.raises(UsageError, match="comparisons are too many"):
        parse(" or ".join(["a > 1"] * 300))
    with pytest.raises(UsageError, match="values are too many"):
        parse(f"a in ({', '.join(['1'] * 300)})")


@pytest.mark.parametrize(
    ("sort", "keys"),
    [
        ("metric:acc", "fab"), ("-metric:acc", "baf"), ("metric:loss", "ba"), ("-min:loss", "bac"),
        ("max:loss", "acb"), ("param:lr", "fbca"), ("-param:lr", "cabf"), ("param:n", "d"),
        ("count:loss", "cba"),
    ],
)  # fmt: skip
def test_sorted(history: History, sort: str, keys: str) -> None:
    assert "".join(str(row.key) for row in history.list(sort=sort)) == keys
    assert [row.key for row in history.list(sort=sort, limit=2, offset=1)] == [*keys[1:3]]


def test_sorted_and_narrowed(history: History) -> None:
    def keys(**asked: Any) -> str:
        return "".join(str(row.key) for row in history.list(sort="param:lr", **asked))

    assert keys(where="acc < 1") == "ba"
    assert keys(states=[RunState.CANCELED]) == "ba"
    assert keys(tags={"team": "x"}) == "c"
    assert keys(experiment="other") == ""
    assert history.list(where="lr = 0.01", tags={"team": None})[0].key == "c"


def test_what_a_question_is_about(history: History) -> None:
    names = history.ask("acc > 0.9 and (min:loss < 1 or param.lr = 1) and state = ended and acc < 2").names
    assert [(n.text, n.kind, n.which) for n in names] == [
        ("acc", "metric", "last"), ("loss", "metric", "least"), ("lr", "param", "last")
    ]  # fmt: skip


NAMES = [
    "x",
    "y",
    "z w",
    "it's",
    "a`b",
    "é",
    'q"',
    "--",
    "';--",
    "\ud800",
    "min:x",
    "metric.x",
    "%s",
    "x" * 250,
]
VALUES = st.one_of(
    st.sampled_from(
        [0, 1, -1, 0.5, 1e-4, math.inf, -math.inf, math.nan, "", "a", "b", "1", True, False, 2**62]
    ),
    st.integers(-(2**62), 2**62),
    st.floats(),
    st.text(st.characters(codec="utf-8"), max_size=8),
)
LITERALS = VALUES.filter(lambda v: v == v and v not in (math.inf, -math.inf))
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
    "=": operator.eq, "!=": operator.ne,
}  # fmt: skip
Row = tuple[dict[str, Any], dict[str, Any]]


def spelled(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> str:
    kind = draw(st.sampled_from(["test", "test", "and", "or", "not"] if depth else ["test"]))
    if kind == "not":
        return f"not {draw(expressions(depth - 1))}" if depth else "metric.x"
    if kind in ("and", "or"):
        return f"({draw(expressions(depth - 1))} {kind} {draw(expressions(depth - 1))})"
    name = draw(st.sampled_from(["metric.", "param.", "min:metric.", "max:metric.", "metric.count:"]))
    name += "`" + draw(st.sampled_from([n for n in NAMES if "`" not in n])) + "`"
    what = draw(st.sampled_from(["compare", "compare", "in", "is", "truth", "two"]))
    if what == "compare":
        sides = [name, spelled(draw(LITERALS))]
        return f" {draw(st.sampled_from([*OPERATORS]))} ".join(sides[:: draw(st.sampled_from([1, -1]))])
    if what == "two":
        return (
            f"{name} {draw(st.sampled_from([*OPERATORS]))} {draw(st.sampled_from(['metric.x', 'param.y']))}"
        )
    if what == "in":
        values = ", ".join(map(spelled, draw(st.lists(LITERALS, min_size=1, max_size=3))))
        return f"{name} {draw(st.sampled_from(['in', 'not in']))} ({values})"
    return f"{name} is {draw(st.sampled_from(['none', 'not none']))}" if what == "is" else name


def value_of(name: Name, row: Row) -> Any:
    """None for what is not there, or is no number and no text."""
    metrics, parameters = row
    if name.kind == "param":
        value = parameters.get(name.text)
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value
    values = metrics.get(name.text)
    if values is None:
        return None
    numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool) and v == v]
    if name.which == "count":
        return len(values)
    if name.which != "last":
        return None if not numbers else float((min if name.which == "least" else max)(numbers))
    return None if values[-1] != values[-1] else values[-1]


def compared(word: str, left: Any, right: Any) -> bool:
    if left is None or right is None:
        return False
    if isinstance(left, str) is not isinstance(right, str):
        return word == "!="
    return OPERATORS[word](left, right)


def holds(tree: Condition, row: Row) -> bool:
    if isinstance(tree, Not):
        return not holds(tree.inner, row)
    if isinstance(tree, All):
        return all(holds(part, row) for part in tree.parts)
    if isinstance(tree, Any_):
        return any(holds(part, row) for part in tree.parts)
    if isinstance(tree, Is):
        table = row[1] if tree.name.kind == "param" else row[0]
        return (tree.name.text in table) is not tree.none
    if isinstance(tree, Compare):
        sides = [
            each.value if isinstance(each, Literal) else value_of(each, row)
            for each in (tree.left, tree.right)
        ]
        return compared(tree.operator, *sides)
    value = value_of(tree.name, row)
    if isinstance(tree, Truth):
        return value is not None and value not in (0, "")
    assert isinstance(tree, In)
    found = any(compared("=", value, each.value) for each in tree.values if isinstance(each, Literal))
    return value is not None and found is not tree.negated


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(NAMES), st.lists(VALUES, min_size=1, max_size=3), max_size=4),
            st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4),
        ),
        min_size=1,
        max_size=4,
    ),
    st.lists(expressions(), min_size=1, max_size=12),
    st.sampled_from([1, 2, 100]),
)
def test_sql_says_what_python_would(rows: list[Row], questions: list[str], many: int) -> None:
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory() as folder,
        History.open(Path(folder, ".hpcrun"), create=True) as history,
    ):
        patch.setattr(asking, "_MANY", many)
        records = [make(parameters=parameters, key=str(i)) for i, (_, parameters) in enumerate(rows)]
        for record, (metrics, _) in zip(history.create_all(records), rows, strict=True):
            measured(history, record.id, metrics)
        for where in questions:
            expected = {str(i) for i, row in enumerate(rows) if holds(parse(where), row)}
            assert {str(row.key) for row in history.list(where=where, limit=None)} == expected, where


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text("()<>=!'\"`., andorti1.e-5x", max_size=60))
def test_whatever_is_asked_is_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except UsageError as error:
        assert error.message.isprintable() or "\n" in error.message


def test_sort_keys() -> None:
    key = sort_key("-max:a:b c")
    assert key is not None
    assert (key.name.text, key.name.which, key.name.kind, key.lowest) == ("a:b c", "most", "metric", True)
    assert [sort_key(text) for text in ("started", "-started", "metric:", "", "metric")] == [None] * 5


def test_every_name_can_be_asked_for(tmp_path: Path) -> None:
    with History.open(tmp_path / ".hpcrun", create=True) as history:
        run, _ = history.create(make())
        names = [n for n in NAMES if "`" not in n and "\ud800" not in n]
        measured(history, run.id, {name: i for i, name in enumerate(names)})
        for (i, name), kind in itertools.product(enumerate(names), ("", "metric.")):
            assert history.list(where=f"{kind}`{name}` = {i}"), name
            assert history.list(sort=f"metric:{name}"), name
