"""``hpcrun compare``: on a terminal, as CSV, JSON and a page, and from Python."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from hpcrun.metrics.svg import Curve, chart
from hpcrun.workspace import Workspace
from tests.cli_help import document, on_terminal, refused, typed
from tests.metrics_help import curve, ended_run, tell

HOSTILE = "<script>alert(1)</script>\"'&<img src=http://x onerror=y>\x1b[2J"


@pytest.fixture
def ws() -> Iterator[Workspace]:
    with Workspace(".") as workspace:
        yield workspace


@pytest.fixture
def pair(ws: Workspace) -> list[str]:
    """Two runs that differ in a parameter, a tag, a variable, a commit and what they measured."""
    runs = []
    for number, rate in enumerate((0.1, 0.01)):
        text = {"script": "t.py", "environment_variables": {"A": str(number)}, "resources": {"nodes": 1}}
        run = ended_run(
            ws,
            config={"yaml": json.dumps(text)},
            parameters={"lr": rate, "batch": 32},
            properties={"git.commit": f"{number}" * 40, "git.branch": "main", "git.dirty": "false"},
            tags={"kind": "a"} if number else {},
            usage={"memory_bytes": 1024.0},
        )
        tell(ws, run, curve("loss", [1.0, math.nan, rate]))
        runs.append(run)
    tell(ws, runs[1], [{"n": "acc", "v": 0.5}])
    return runs


def by_key(found: dict[str, Any]) -> dict[str, tuple[list[Any], bool]]:
    return {f"{row['section']}.{row['key']}": (row["values"], row["differs"]) for row in found["rows"]}


def test_runs_side_by_side(pair: list[str]) -> None:
    found = document("compare", *pair)
    assert found["runs"] == pair
    rows = by_key(found)
    assert rows["parameters.lr"] == ([0.1, 0.01], True) and rows["parameters.batch"] == ([32, 32], False)
    assert rows["metrics.loss"] == ([0.1, 0.01], True)
    assert rows["metrics.loss (min)"][0] == [0.1, 0.01] and rows["metrics.loss (max)"] == ([1.0, 1.0], False)
    assert rows["metrics.acc"] == ([None, 0.5], True) and "metrics.acc (min)" not in rows
    assert rows["run.duration_seconds"] == ([90.0, 90.0], False)
    assert rows["run.usage.memory_bytes"] == ([1024.0, 1024.0], False)
    assert rows["run.tags.kind"] == ([None, "a"], True)
    assert rows["environment.environment_variables.A"] == (["0", "1"], True)
    assert rows["configuration.resources.nodes"] == ([1, 1], False)
    assert rows["git.git.commit"][1] and not rows["git.git.branch"][1]


def test_only_in_what_they_differ_and_only_some_metrics(pair: list[str]) -> None:
    rows = by_key(document("compare", *pair, "--only-different", "--metric", "a*"))
    assert all(differs for _, differs in rows.values())
    assert [key for key in rows if key.startswith("metrics.")] == ["metrics.acc"]
    assert "did you mean loss?" in refused("compare", *pair, "-m", "los", code=4)


def test_what_is_shown(pair: list[str]) -> None:
    lines = typed("compare", *pair).splitlines()
    assert lines[0].split() == [run[-8:] for run in pair]
    assert ["*", "lr", "0.1", "0.01"] in [line.split() for line in lines]
    assert ["batch", "32", "32"] in [line.split() for line in lines]
    assert all(len(line.rstrip()) == len(line) for line in lines)


@pytest.mark.parametrize("columns", [30, 60, 160])
def test_runs_wrap_where_the_terminal_ends(ws: Workspace, pair: list[str], columns: int) -> None:
    more = [ended_run(ws, display_name="雪" * 30, parameters={"x" * 80: number}) for number in range(6)]
    shown = on_terminal("compare", *pair, *more, columns=columns)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).split("\r\n")
    assert all(cell_len(line) <= columns for line in lines)
    heads = [word for line in lines for word in line.split() if word in {run[-8:] for run in (*pair, *more)}]
    assert heads == [run[-8:] for run in (*pair, *more)]
    assert "\x1b[33m" in shown and "\x1b" not in on_terminal("compare", *pair, NO_COLOR="1")


def test_a_hundred_runs_as_csv(ws: Workspace) -> None:
    runs = [ended_run(ws, parameters={"x": number, "text": 'a,"b"\n'}) for number in range(100)]
    rows = [*csv.DictReader(io.StringIO(typed("compare", *runs, "--csv", "-")))]
    assert [row["run"] for row in rows] == runs
    assert [row["parameters.x"] for row in rows] == [str(number) for number in range(100)]
    assert rows[7]["parameters.text"] == 'a,"b"\n'
    assert typed("compare", *runs[:2], "--csv", "runs.csv") == "runs.csv\n"
    assert Path("runs.csv").stat().st_mode & 0o777 == 0o600


class Page(HTMLParser):
    """What a browser would load or run, and the texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_page_that_loads_nothing_and_runs_nothing(ws: Workspace) -> None:
    runs = []
    for number in range(2):
        run = ended_run(ws, display_name="<b>x", parameters={HOSTILE: HOSTILE}, tags={"t": HOSTILE})
        tell(ws, run, [*curve(HOSTILE, [1, 2, math.inf, number]), {"n": "text", "v": HOSTILE}])
        runs.append(run)
    assert typed("compare", *runs, "--html", "page.html") == "page.html\n"
    assert Path("page.html").stat().st_mode & 0o777 == 0o600
    text = Path("page.html").read_text()
    page = Page(text)
    assert {"table", "svg", "polyline"} <= {*page.tags}
    assert not {"script", "img", "b", "link", "iframe", "object", "a"} & {*page.tags}
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]
    assert "\x1b" not in text and "default-src 'none'" in text
    assert HOSTILE.replace("\x1b", "\N{REPLACEMENT CHARACTER}") in page.texts
    assert page.texts.count("<b>x (" + runs[0][-8:] + ")") >= 2


@given(
    st.text(),
    st.lists(st.lists(st.floats() | st.sampled_from([math.nan, math.inf, 1e308, -1e308])), max_size=4),
)
def test_a_chart_is_whole_xml_within_its_frame(title: str, lines: list[list[float]]) -> None:
    curves = [Curve(title, [*map(float, range(len(y)))], y, at) for at, y in enumerate(lines)]
    root = ElementTree.fromstring(chart(title, curves))
    points = [
        tuple(map(float, point.split(",")))
        for line in root.iter("{http://www.w3.org/2000/svg}polyline")
        for point in line.attrib["points"].split()
    ]
    assert all(0 <= x <= 420 and 0 <= y <= 220 for x, y in points)


def test_from_python(ws: Workspace, pair: list[str]) -> None:
    found = ws.compare([pair[0], "@-1"], metrics=["loss"])
    assert found.runs == pair and found.to_html().startswith("<!DOCTYPE html>")
    assert {row.key for row in found.different().rows if row.section == "metrics"} == {"loss", "loss (min)"}


def test_one_run_is_not_enough(pair: list[str]) -> None:
    assert "two runs" in refused("compare", pair[0], pair[0], code=2)
    assert "cannot be written" in refused("compare", *pair, "--html", "nowhere/x.html", code=1)
    assert "one document" in document("compare", *pair, "--csv", "-", code=2)["error"]["message"]
    assert "did you mean" in refused("compare", pair[0], pair[1][:-1] + "?", code=4)


def test_the_children_of_a_run(ws: Workspace) -> None:
    parent = ended_run(ws)
    children = [ended_run(ws, parent=parent, parameters={"x": number}) for number in range(3)]
    found = document("compare", parent, "--children")
    assert found["runs"] == children and by_key(found)["parameters.x"] == ([0, 1, 2], True)
    assert [
        row["run"]
        for row in csv.DictReader(io.StringIO(typed("compare", parent, "--children", "--csv", "-")))
    ]
    assert "no such run has children" in refused("compare", *children, "--children", code=2)
    assert f"hpcrun compare {parent[-8:]} --children" in refused("metrics", parent, code=0)
