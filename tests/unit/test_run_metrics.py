"""What a run measured, from Python: in Azure ML's shapes, point by point, and to find runs by."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Experiment, Run, ScriptRunConfig, Workspace
from hpcrun.engine.measured import take_in
from hpcrun.errors import UsageError
from hpcrun.metrics.reading import file_of
from hpcrun.metrics.values import by_name, shaped
from hpcrun.states import RunState
from tests.engine_help import PATIENCE, source, until, workspace
from tests.unit.test_history_store import make
from tests.unit.test_metrics_index import append, line
from tests.unit.test_metrics_where import measured

MEASURES = """
import json, os, pathlib, sys, time
metrics = pathlib.Path(os.environ["HPCRUN_RUN_DIR"], "metrics", "rank_000.jsonl")
def log(name, value, **more):
    with metrics.open("a") as file:
        file.write(json.dumps({"n": name, "v": value, "t": time.time(), **more}) + chr(10))
log("loss", 0.9, s=1)
log("once", "text")
print("ready", flush=True)
while "--wait" in sys.argv and not pathlib.Path(sys.argv[-1]).exists():
    time.sleep(0.02)
log("loss", 0.25, s=2)
pathlib.Path("outputs/images").mkdir()
pathlib.Path("outputs/images/a[1].png").write_text("png")
log("image", {"path": "outputs/images/a[1].png"}, k="image")
"""


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    with workspace(tmp_path / "ws") as made:
        monkeypatch.chdir(made.folder)
        yield made


def stored(ws: Workspace, *lines: str, **more: Any) -> Run:
    """A run that has ended, with these lines."""
    record, _ = ws.history.create(make(target="local", scheduler="local", **more))
    if lines:
        append(ws.history, record, *lines)
        take_in(ws.history, record)
    ws.history.update(record.id, lambda r: setattr(r, "state", RunState.CANCELED))
    return Run.get(ws, record.id)


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        ([line("x", 0.5)], 0.5),
        ([line("x", 1), line("x", 2.5), line("x", "a"), line("x", None)], [1, 2.5, "a", None]),
        ([line("x", True)], True),
        ([line("x", [1, 2], k="list"), line("x", [3], k="list")], [1, 2, 3]),
        ([line("x", [1], k="list")], [1]),
        ([line("x", {"a": 1, "b": "t"}, k="row")], {"a": 1, "b": "t"}),
        (
            [line("x", {"a": 1}, k="row"), line("x", {"b": 2}, k="row"), line("x", {"a": 3}, k="row")],
            {"a": [1, None, 3], "b": [None, 2, None]},
        ),
        ([line("x", {"a": [1, 2]}, k="table")], {"a": [1, 2]}),
        (
            [line("x", {"a": [1, 2]}, k="table"), line("x", {"a": [3], "b": [4]}, k="table")],
            {"a": [1, 2, 3], "b": [None, None, 4]},
        ),
        ([line("x", {"path": "outputs/a.png"}, k="image")], "outputs/a.png"),
        ([line("x", {"schema_type": "residuals"}, k="residuals")], {"schema_type": "residuals"}),
        ([line("x", 1), "torn\n", line("x", [2, 3], k="list")], [1, 2, 3]),
    ],
)
def test_shapes(ws: Workspace, lines: list[str], value: Any) -> None:
    run = stored(ws, *lines)
    assert run.get_metrics() == {"x": value}
    assert run.get_metrics("x") == {"x": value}
    assert run.get_metrics("y") == {}


def test_nan_and_types_are_kept(ws: Workspace) -> None:
    found = stored(ws, line("x", math.nan), line("x", math.inf), line("x", 2), line("x", 2.0)).get_metrics()[
        "x"
    ]
    assert math.isnan(found[0])
    assert found[1:] == [math.inf, 2, 2.0]
    assert [type(value) for value in found[2:]] == [int, float]


def test_ranks(ws: Workspace) -> None:
    run = stored(ws, line("x", 0))
    record = ws.history.get(run.id)
    append(ws.history, record, line("x", 2), line("y", 22), rank=2)
    append(ws.history, record, line("y", 11), rank=1)
    assert run.get_metrics() == {"x": 0, "y": 11}
    assert run.get_metrics(rank=2) == {"x": 2, "y": 22}
    assert run.get_metrics(rank=5) == {}
    assert [p.rank for p in run.get_metric_points("y")] == [1]


def test_points(ws: Workspace) -> None:
    run = stored(ws, line("x", 1, 10), line("y", 5), line("x", 2, 20, a=2))
    points = run.get_metric_points("x")
    assert [(p.value, p.step, p.attempt, p.time) for p in points] == [
        (1, 10, 1, 1_760_000_000.5),
        (2, 20, 2, 1_760_000_000.5),
    ]
    assert run.get_metric_points("z") == []


def test_of_a_run_and_all_below_it(ws: Workspace) -> None:
    top = stored(ws, line("x", 1))
    ws.history.update(top.id, lambda r: setattr(r, "state", RunState.CANCELED))
    child = stored(ws, line("x", 2), parent=top.id)
    bare = stored(ws, parent=child.id)
    below = stored(ws, line("x", 3), parent=bare.id)
    assert top.get_metrics() == {"x": 1}
    assert top.get_metrics(recursive=True) == {top.id: {"x": 1}, child.id: {"x": 2}, below.id: {"x": 3}}
    assert bare.get_metrics() == {}


def test_parameters(ws: Workspace) -> None:
    sweep = stored(ws, type="sweep")
    trials = [stored(ws, parent=sweep.id, parameters={"lr": i}) for i in range(3)]
    assert trials[1].parameters == trials[1].get_hyperparameters() == {"lr": 1}
    assert sweep.get_hyperparameters() == {run.id: json.dumps({"lr": i}) for i, run in enumerate(trials)}


def test_live_and_once_it_has_ended(ws: Workspace, tmp_path: Path) -> None:
    """What a run on this machine measures is seen while it runs, in the index too, and all of it after."""
    go = tmp_path / "go"
    src = source(tmp_path / "src", train_py=MEASURES)
    arguments = ["--lr", "0.1", "--amp", "--wait", str(go)]
    run = Experiment(ws, "exp").submit(ScriptRunConfig(str(src), "train.py", arguments))
    assert run.parameters == {"lr": 0.1, "amp": True, "wait": str(go)}
    until(lambda: "once" in run.get_metrics(), "it never measured anything")
    assert run.get_metrics() == {"loss": 0.9, "once": "text"}
    assert not run.done()
    found = {each.name: each.last for each in ws.history.metrics_of([run.id])[run.id]}
    assert found == {"loss": 0.9, "once": "text"}
    go.touch()
    run.wait_for_completion(timeout=PATIENCE)
    assert run.get_metrics("loss") == {"loss": [0.9, 0.25]}
    assert run.get_metrics()["image"] == "outputs/images/a[1].png"
    assert Path(run.get_metrics(populate=True)["image"]).read_text() == "png"
    found = {each.name: each.last for each in ws.history.metrics_of([run.id])[run.id]}
    assert found == {"loss": 0.25, "once": "text", "image": None}


def test_they_are_in_the_index_before_the_end_is_written_down(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody looks at a run again that has ended: whoever is killed right after must not lose any."""
    monkeypatch.setattr("hpcrun.engine.refresh._measured", lambda *_: None)
    src = source(tmp_path / "src", train_py=MEASURES)
    run = Experiment(ws, "exp").submit(ScriptRunConfig(str(src), "train.py"))
    run.wait_for_completion(timeout=PATIENCE)
    found = {each.name: each.last for each in ws.history.metrics_of([run.id])[run.id]}
    assert found == {"loss": 0.25, "once": "text", "image": None}


def test_runs_are_found_by_what_they_measured(ws: Workspace) -> None:
    runs = []
    for acc, lr in ((0.8, 0.5), (0.95, 0.01), (0.92, 0.5)):
        runs.append(stored(ws, parameters={"lr": lr}))
        measured(ws.history, runs[-1].id, {"val_acc": acc})
    experiment = Experiment(ws, "cifar")

    def found(**asked: Any) -> list[int]:
        return [[run.id for run in runs].index(run.id) for run in experiment.get_runs(**asked)]

    assert found(where="val_acc > 0.9 and lr < 0.1") == [1]
    assert found(where="val_acc > 0.9") == [2, 1]
    assert found(where="val_acc > 0.9", sort="metric:val_acc") == [1, 2]
    assert found(sort="-metric:val_acc") == [0, 2, 1]
    with pytest.raises(UsageError, match="is called vall_acc"):
        found(where="vall_acc > 0.9")


def test_a_lower_rank_takes_over_whatever_the_order() -> None:
    from hpcrun.metrics.reading import Point

    points = [Point("x", rank, 0.0, None, "scalar", rank, 1) for rank in (3, 1, 2, 0, 1)]
    assert [p.value for p in by_name(points)["x"]] == [0]
    assert shaped([points[0]]) == 3


def test_a_file_that_cannot_be_read_spoils_nothing(ws: Workspace) -> None:
    run = stored(ws, line("x", 1))
    file_of(ws.history.seen(run.record).metrics, 1).mkdir()
    assert run.get_metrics() == {"x": 1}
    assert json.loads(json.dumps(run.get_metrics())) == {"x": 1}
