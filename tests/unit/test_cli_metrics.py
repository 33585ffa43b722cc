"""``hpcrun metrics``: tables, documents, pictures, and what is said where there is nothing."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from hpcrun.workspace import Workspace
from tests.cli_help import document, hpcrun, on_terminal, refused, typed
from tests.metrics_help import MATRIX, curve, ended_run, tell


@pytest.fixture
def ws() -> Iterator[Workspace]:
    with Workspace(".") as workspace:
        yield workspace


@pytest.fixture
def run(ws: Workspace) -> str:
    run_id = ended_run(ws)
    points = [*curve("loss", [4.0, 2.0, math.nan, 1.0]), {"n": "epochs", "v": 12}, {"n": "note", "v": "done"}]
    points += [{"n": "score", "v": {"epoch": i, "f1": i / 4}, "k": "row"} for i in range(3)]
    points += [
        {"n": "cm", "v": MATRIX, "k": "confusion_matrix"},
        {"n": "pic", "v": {"path": "code/outputs/a.png"}, "k": "image"},
    ]
    points += [
        {"n": "best", "v": {"name": ["a", "b"], "at": [1]}, "k": "table"},
        {"n": "hist", "v": [3, 1, 2], "k": "list"},
    ]
    points += [{"n": "odd", "v": {"data": {"deep": [{"a": 1}]}}, "k": "residuals"}]
    tell(ws, run_id, points)
    return run_id


def test_all_of_a_run_in_two_tables(run: str) -> None:
    first, second = typed("metrics", "@-1").split("\n\n")
    assert [line.split() for line in first.splitlines()] == [
        ["NAME", "COUNT", "LAST", "MIN", "MAX", "STEP", "CURVE"],
        ["loss", "4", "1", "1", "4", "3", "█▃", "▁"],
        ["epochs", "1", "12", "12", "12", "-", "▄"],
        ["note", "1", "done", "-", "-", "-"],
        ["hist", "3", "2", "1", "3", "-", "█▁▅"],
    ]
    assert [re.split("  +", line) for line in second.splitlines()] == [
        ["NAME", "KIND", "COUNT", "LAST"],
        ["score", "row", "3", "epoch=2, f1=0.5"],
        ["cm", "confusion matrix", "1", "2 x 2: cat, dog"],
        ["pic", "image", "1", "code/outputs/a.png"],
        ["best", "table", "1", "2 columns, 2 rows"],
        ["odd", "residuals", "1", "deep"],
    ]


def test_those_that_are_named_are_shown_in_full(ws: Workspace, run: str) -> None:
    picture = ws.history.paths.run(run).folder / "code/outputs/a.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"x" * 2048)
    shown = typed("metrics", run, "cm", "score", "best", "pic", "odd")
    assert "  true \\ predicted  cat  dog\n  cat               5    1\n  dog               2    7\n" in shown
    assert "  epoch  f1\n  0      0\n  1      0.25\n  2      0.5\n" in shown
    assert "  name  at\n  a     1\n  b     -\n" in shown
    assert "  code/outputs/a.png  2.0 KiB\n" in shown
    assert '"deep": [' in shown


def test_many_rows_are_the_last_of_them(ws: Workspace, run: str) -> None:
    tell(ws, run, [{"n": "long", "v": {"i": i}, "k": "row"} for i in range(100)])
    shown = typed("metrics", run, "long").splitlines()
    assert shown[1].strip() == "… 60 rows before" and shown[3].strip() == "60" and shown[-1].strip() == "99"


def test_a_matrix_that_is_none_is_shown_as_it_is(ws: Workspace, run: str) -> None:
    tell(ws, run, [{"n": "bad", "v": {"class_labels": ["a"], "matrix": [[1, 2]]}, "k": "confusion_matrix"}])
    assert "class_labels" in typed("metrics", run, "bad")


def test_several_runs_stand_below_each_other_in_one_scale(ws: Workspace, run: str) -> None:
    other = ended_run(ws)
    tell(ws, other, curve("loss", [8.0, 1.0]))
    lines = typed("metrics", run, other, "loss").splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["loss", run[-8:]], ["loss", other[-8:]]]
    assert lines[1].endswith("▄▂ ▁") and lines[2].endswith("█▁")


def test_a_word_is_a_metric_before_it_is_a_run(ws: Workspace, run: str) -> None:
    ended_run(ws, display_name="loss")
    assert [each["id"] for each in document("metrics", run, "loss")["runs"]] == [run]
    assert len(document("metrics", run, "@-1", "-m", "loss")["runs"]) == 2


def test_names_with_stars(run: str) -> None:
    assert [m["name"] for m in document("metrics", run, "*o*")["runs"][0]["metrics"]] == [
        *("loss", "epochs", "note", "score", "odd")
    ]


def test_a_name_that_is_none_is_guessed(run: str) -> None:
    assert "did you mean loss?" in refused("metrics", run, "los", code=4)
    assert f"hpcrun metrics {run[-8:]}" in refused("metrics", run, "zzzzzz", code=4)
    assert "and no run is called so" in refused("metrics", run, "zzzzzz", code=4)
    assert "no run is" not in refused("metrics", run, "-m", "zzzzzz", code=4)
    assert "no run '@nope'" in refused("metrics", run, "@nope", code=4)


def test_a_run_that_measured_nothing(ws: Workspace) -> None:
    run = ended_run(ws)
    assert f"run {run} has measured nothing\n" in refused("metrics", run, code=0)
    assert "nothing was measured yet" in refused("metrics", run, "loss", code=4)


def test_ranks(ws: Workspace, run: str) -> None:
    tell(ws, run, curve("loss", [9.0]), rank=3)
    assert " 1  " in typed("metrics", run, "loss")
    found = document("metrics", run, "--rank", "3")["runs"][0]["metrics"]
    assert [(each["name"], each["rank"], each["last"]) for each in found] == [("loss", 3, 9.0)]
    assert "those that did: 0, 3" in refused("metrics", run, "--rank", "1", code=0)


def test_the_document_has_the_points_of_what_was_named(run: str) -> None:
    (loss, *_) = document("metrics", run)["runs"][0]["metrics"]
    assert loss["points"] == []
    assert (loss["count"], loss["last"], loss["step"], loss["min"], loss["max"]) == (4, 1.0, 3, 1.0, 4.0)
    text = typed("metrics", run, "loss", "--json")
    points = json.loads(text, parse_constant=pytest.fail)["runs"][0]["metrics"][0]["points"]
    assert (
        points[0] == {"step": 0, "time": "2025-10-09T08:53:20.000000Z", "value": 4.0}
        and points[2]["value"] == "NaN"
    )


def test_all_values_as_csv(ws: Workspace, run: str) -> None:
    tell(ws, run, [{"n": 'a,"b"\n', "v": True, "a": 2}], rank=1)
    rows = [*csv.DictReader(io.StringIO(typed("metrics", run, "loss", "hist", "a*", "--csv")))]
    assert [(row["name"], row["step"], row["value"], row["rank"], row["attempt"]) for row in rows] == [
        ("loss", "0", "4.0", "0", "1"),
        ("loss", "1", "2.0", "0", "1"),
        ("loss", "2", "NaN", "0", "1"),
        ("loss", "3", "1.0", "0", "1"),
        ("hist", "", "[3, 1, 2]", "0", "1"),
        ('a,"b"\n', "", "true", "1", "2"),
    ]
    assert rows[0]["time"] == "2025-10-09T08:53:20.000000Z"


def test_a_picture(ws: Workspace, run: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="no matplotlib")
    other = ended_run(ws)
    tell(ws, other, [*curve("loss", range(10_000)), *curve("雪 $\\x$", [1, 2]), *curve("雪 $\\x$", [0], a=2)])
    assert typed("metrics", run, other, "--plot", "curves.png") == "curves.png\n"
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert typed("metrics", run, "--plot", "loss", "--log") == "metrics.png\n"
    assert "no curve to draw" in refused("metrics", run, "cm", "--plot", code=4)


def test_children_in_place_of_their_parent(ws: Workspace, tmp_path: Path) -> None:
    parent = ended_run(ws)
    children = [ended_run(ws, parent=parent) for _ in range(20)]
    for at, child in enumerate(children):
        tell(ws, child, curve("loss", [2.0, at]))
    assert f"hpcrun metrics {parent[-8:]} --children" in hpcrun("metrics", parent).stderr
    assert [each["id"] for each in document("metrics", parent, "loss", "--children")["runs"]] == children
    assert len(typed("metrics", parent, "--children").splitlines()) == 21
    pytest.importorskip("matplotlib", reason="no matplotlib")
    assert typed("metrics", parent, "--children", "--plot", "all.svg") == "all.svg\n"
    assert (tmp_path / "all.svg").stat().st_size > 10_000
    assert "Leave --children out" in refused("metrics", children[0], "--children", code=2)


def test_what_does_not_go_together_is_refused(run: str) -> None:
    assert "PNG" in refused("metrics", run, "--plot", "curves.jpg", code=2)
    assert "no folder" in refused("metrics", run, "--plot", "nowhere/a.png", code=2)
    assert "--csv and --json" in document("metrics", run, "--csv", code=2)["error"]["message"]
    assert "there is none" in refused("metrics", run, "--watch", code=2)


def test_names_cannot_play_tricks_on_the_terminal(ws: Workspace, run: str) -> None:
    tell(
        ws, run, [{"n": "\x1b[2Jx", "v": "\x1b]0;t\x07"}, {"n": "r", "v": {"\x1b[2J": "\x1b[2J"}, "k": "row"}]
    )
    for args in ([], ["*x", "r"]):
        assert "\x1b" not in typed("metrics", run, *args)


@pytest.mark.parametrize("columns", [30, 60, 100, 160])
def test_the_table_is_fitted_to_the_terminal(ws: Workspace, run: str, columns: int) -> None:
    tell(ws, run, curve("validation/accuracy_of_the_best_层", [0.001234567] * 100))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", on_terminal("metrics", run, columns=columns)).split("\r\n")
    table = lines[: lines.index("")]
    assert all(cell_len(line) <= columns for line in table)
    assert "LAST" in table[0] and ("CURVE" in table[0]) == (columns >= 60 or "CURVE" in table[0])
    assert "STEP" in table[0] or columns < 100


def test_colour_comes_where_it_is_welcome(run: str) -> None:
    assert "\x1b[36m" in on_terminal("metrics", run)
    assert "\x1b" not in on_terminal("metrics", run, NO_COLOR="1")
    assert "▄" not in on_terminal("metrics", run, TERM="linux")


def test_show_has_the_last_values(ws: Workspace, run: str) -> None:
    tell(ws, run, [{"n": f"more/{number}", "v": number} for number in range(18)])
    lines = typed("show", run).splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith("metrics "))
    assert lines[at].split() == ["metrics", "loss", "1", "█▃", "▁"]
    assert lines[at + 3].split() == ["hist", "2", "█▁▅"]
    assert lines[at + 20].strip() == f"… and 2 more: hpcrun metrics {run[-8:]}"


def test_show_reads_no_large_files(ws: Workspace) -> None:
    run = ended_run(ws)
    assert "\nmetrics " not in typed("show", run)
    tell(ws, run, [{"n": "x" * 1_000_000, "v": 1}] * 5)
    assert f"\nmetrics     hpcrun metrics {run[-8:]}\n" in typed("show", run)
