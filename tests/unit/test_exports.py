"""``hpcrun export`` and ``hpcrun tensorboard``, read back by the libraries that others read them with."""

from __future__ import annotations

import csv
import math
import re
import signal
import sqlite3
import struct
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun.engine.export_mlflow import _name
from hpcrun.workspace import Workspace
from tests.cli_help import PATIENCE, document, program, refused, typed
from tests.engine_help import until
from tests.metrics_help import BEGAN, MATRIX, curve, ended_run, tell


@pytest.fixture
def ws() -> Iterator[Workspace]:
    with Workspace(".") as workspace:
        yield workspace


def png() -> bytes:
    """A picture of one dot."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(b"\0\x7f")), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.fixture
def run(ws: Workspace) -> str:
    run_id = ended_run(ws, display_name="first", parameters={"lr": 0.1, "opt": "adam", "deep": True})
    picture = ws.history.paths.run(run_id).folder / "code/outputs/a.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(png())
    tell(ws, run_id, [*curve("loss", [4.0, math.nan, math.inf, 1.5]), {"n": "epochs", "v": 3}])
    tell(ws, run_id, [{"n": "epochs", "v": 4, "a": 2}, {"n": "note", "v": "good"}, {"n": "on", "v": True}])
    tell(ws, run_id, [{"n": "hist", "v": [1, 2], "k": "list"}, {"n": "none", "v": None}])
    tell(ws, run_id, [{"n": "score", "v": {"f1": i, "who": "x"}, "k": "row"} for i in range(2)])
    tell(ws, run_id, [{"n": "cm", "v": MATRIX, "k": "confusion_matrix"}])
    tell(ws, run_id, [{"n": "pic", "v": {"path": "code/outputs/a.png"}, "k": "image"}])
    tell(ws, run_id, [{"n": "out", "v": {"path": "../../../../../../etc/passwd"}, "k": "image"}])
    tell(ws, run_id, curve("loss", [7.0]), rank=1)
    return run_id


def test_csv(ws: Workspace, run: str, tmp_path: Path) -> None:
    other = ended_run(ws, parameters={"lr": 1})
    for _ in range(2):  # the second time is as the first
        assert typed("export", "csv", run, other, "-o", "a/b") == "a/b/metrics.csv\na/b/runs.csv\n"
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "a/b").iterdir()} == {0o600}
    with Path("a/b/metrics.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    loss = [(row["step"], row["value"], row["rank"]) for row in rows if row["name"] == "loss"]
    assert loss == [
        ("0", "4.0", "0"),
        ("1", "NaN", "0"),
        ("2", "Infinity", "0"),
        ("3", "1.5", "0"),
        ("0", "7.0", "1"),
    ]
    assert [(row["value"], row["attempt"]) for row in rows if row["name"] == "epochs"] == [
        ("3", "1"),
        ("4", "2"),
    ]
    with Path("a/b/runs.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["run"], first["parameters.lr"], first["metrics.loss"]) == (run, "0.1", "1.5")
    assert (second["run"], second["parameters.lr"], second["metrics.loss"]) == (other, "1", "")


def test_parquet(ws: Workspace, run: str) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="no pyarrow")
    tell(ws, run, [{"n": "huge", "v": 2**70}, {"n": "half \ud800", "v": "\udfff"}])
    for _ in range(2):
        typed("export", "parquet", run, "-o", "out")
    rows = pq.read_table("out/metrics.parquet").to_pylist()
    loss = [row for row in rows if row["name"] == "loss" and row["rank"] == 0]
    assert [row["step"] for row in loss] == [0, 1, 2, 3]
    assert math.isnan(loss[1]["value"]) and loss[2]["value"] == math.inf
    assert loss[0]["time"].timestamp() == BEGAN and loss[0]["type"] == "float"
    by_name = {row["name"]: row for row in rows}
    assert by_name["huge"]["value"] is None and by_name["huge"]["text"] == str(2**70)
    assert (by_name["epochs"]["value"], by_name["epochs"]["type"], by_name["epochs"]["attempt"]) == (
        4,
        "int",
        2,
    )
    assert (by_name["note"]["text"], by_name["hist"]["text"]) == ("good", "[1, 2]")
    assert (by_name["none"]["text"], by_name["none"]["type"]) == (None, "NoneType")
    (about,) = pq.read_table("out/runs.parquet").to_pylist()
    assert (about["parameters.lr"], about["parameters.deep"], about["parameters.opt"]) == (0.1, True, "adam")


def mlflow_run(run: str) -> tuple[Any, Any]:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{Path('ml/mlflow.db').absolute()}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiments = [each.experiment_id for each in client.search_experiments()]
    (found,) = client.search_runs(experiments, f"tags.`hpcrun.run_id` = '{run}'")
    return client, found


@pytest.mark.slow
# What a library warns of as it is loaded is its makers' business.
@pytest.mark.filterwarnings("default")
def test_mlflow(ws: Workspace, run: str) -> None:
    pytest.importorskip("mlflow", reason="no mlflow")
    pytest.importorskip("sqlalchemy", reason="no sqlalchemy")
    odd = ["loss/../../x", "a b$c", "a b#c", "..", "/"]
    tell(ws, run, [{"n": name, "v": at} for at, name in enumerate(odd)])
    typed("export", "mlflow", run, "-o", "ml", "--artifacts")
    typed("export", "mlflow", run, "-o", "ml")
    tell(
        ws,
        run,
        [
            {"n": "loss", "v": 9.0, "s": 4},
            {"n": "epochs", "v": 5},
            {"n": "score", "v": {"f1": 9}, "k": "row"},
        ],
    )
    Path("ml/.hpcrun", f"{run}.json").write_text("lost")  # all is told again, and MLflow has it once
    typed("export", "mlflow", run, "-o", "ml")
    child = ended_run(ws, parent=run)
    typed("export", "mlflow", run, "--children", "-o", "ml")
    client, found = mlflow_run(run)
    assert mlflow_run(child)[1].data.tags["mlflow.parentRunId"] == found.info.run_id
    known = {name: client.get_metric_history(found.info.run_id, name) for name in found.data.metrics}
    loss = sorted((each.step, each.timestamp, each.value) for each in known["loss"])
    assert [step for step, _, _ in loss] == [0, 1, 2, 3, 4]
    assert loss[0] == (0, BEGAN * 1000, 4.0) and math.isnan(loss[1][2]) and loss[2][2] > 1e308
    assert sorted((each.step, each.value) for each in known["epochs"]) == [(0, 3), (1, 4), (2, 5)]
    assert [each.value for each in known["rank_1/loss"]] == [7.0]
    assert sorted(each.value for each in known["score/f1"]) == [0, 1, 9]
    assert len({_name(name) for name in odd}) == len(odd) and {_name(name) for name in odd} <= {*known}
    assert found.data.params == {"lr": "0.1", "opt": "adam", "deep": "True"}
    assert found.data.tags["metric.note"] == "good" and found.data.tags["hpcrun.state"] == "Completed"
    assert (found.info.status, found.info.run_name) == ("FINISHED", "first")
    assert found.info.end_time - found.info.start_time == 90_000
    names = {file.path for file in client.list_artifacts(found.info.run_id, "metrics")}
    assert {"metrics/cm.json", "metrics/score.json", "metrics/pic.png", "metrics/out.json"} == names
    assert [file.path for file in client.list_artifacts(found.info.run_id, "outputs")] == ["outputs/a.png"]
    assert Path("ml").stat().st_mode & 0o777 == 0o700 and Path("ml/mlflow.db").stat().st_mode & 0o777 == 0o600
    with sqlite3.connect("ml/mlflow.db") as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (2,)


def test_what_export_does_not_do(run: str) -> None:
    assert "--artifacts is for mlflow" in refused("export", "csv", run, "-o", "x", "--artifacts", code=2)
    assert "MLflow takes no folder" in refused("export", "mlflow", run, "-o", "what?", code=2)
    assert "excel" in refused("export", "excel", run, "-o", "x", code=2)
    Path("file").touch()
    refused("export", "csv", run, "-o", "file/x", code=9)


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # 0: all of them, and not a choice by chance.
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    found.Reload()
    return found


@pytest.fixture
def tensorboard() -> None:
    pytest.importorskip("tensorboard", reason="no tensorboard")


@pytest.mark.usefixtures("tensorboard")
def test_event_files(ws: Workspace, run: str) -> None:
    folder = ws.history.paths.tensorboard / run
    found = document("tensorboard", run, "--no-serve")
    assert found == {"logdir": str(folder.parent), "runs": [{"id": run, "folder": str(folder), "new": 16}]}
    shown = events(folder)
    loss = shown.Scalars("loss")
    assert [(each.step, each.wall_time) for each in loss] == [(at, BEGAN + at) for at in range(4)]
    assert loss[0].value == 4.0 and math.isnan(loss[1].value) and loss[2].value == math.inf
    assert [(each.step, each.value) for each in shown.Scalars("epochs")] == [(0, 3), (1, 4)]
    assert [each.value for each in shown.Scalars("hist")] == [1, 2]
    assert [each.value for each in shown.Scalars("score/f1")] == [0, 1]
    assert shown.Images("pic")[0].encoded_image_string == png()
    assert (shown.Images("pic")[0].width, shown.Images("pic")[0].height) == (1, 1)
    tags = shown.Tags()
    assert {"note", "cm", "out"} <= {*tags["tensors"]} and tags["images"] == ["pic"]
    assert b"| cat | 5 | 1 |" in shown.Tensors("cm")[0].tensor_proto.string_val[0]
    assert b"root:" not in shown.Tensors("out")[0].tensor_proto.string_val[0]
    assert "_hparams_/session_start_info" in shown.summary_metadata
    assert [each.value for each in events(folder / "rank_001").Scalars("loss")] == [7.0]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert ws.history.paths.tensorboard.stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("tensorboard")
def test_only_new_points_are_written(ws: Workspace, run: str) -> None:
    folder = Path("logs") / run

    def told() -> int:
        return int(document("tensorboard", run, "--no-serve", "--logdir", "logs")["runs"][0]["new"])

    assert (told(), told()) == (16, 0)
    before = {*folder.glob("events*")}
    tell(ws, run, [{"n": "loss", "v": 9.0, "s": 4}, {"n": "epochs", "v": 5}])
    (folder / "events.out.tfevents.1.killed").write_bytes(next(iter(before)).read_bytes())  # half written
    assert told() == 2
    assert [each.value for each in events(folder).Scalars("loss")][3:] == [1.5, 9.0]
    assert [(each.step, each.value) for each in events(folder).Scalars("epochs")][2:] == [(2, 5)]
    assert len({*folder.glob("events*")}) == len(before) + 1
    for path in ws.history.paths.run(run).metrics.iterdir():  # the run began anew
        path.write_text("")
    tell(ws, run, curve("loss", [1.0]))
    assert told() == 1
    assert [each.value for each in events(folder).Scalars("loss")] == [1.0]


@pytest.mark.slow
@pytest.mark.usefixtures("tensorboard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_tensorboard_is_served_here_until_it_is_ended(
    ws: Workspace, run: str, number: int, tmp_path: Path
) -> None:
    typed("tensorboard", ended_run(ws, "other"), "--no-serve")
    log = tmp_path / "log"
    with log.open("w") as out:
        process = program("tensorboard", run, "--port", "0", stdout=out, stderr=out, start_new_session=True)
    try:
        until(lambda: "http://" in log.read_text() or process.poll() is not None, seconds=PATIENCE)
        (address,) = re.findall(r"http://\S+:\d+/", log.read_text())
        assert "127.0.0.1" in address or "localhost" in address

        def runs() -> str:
            with urllib.request.urlopen(f"{address}data/runs", timeout=PATIENCE) as answer:
                return str(answer.read().decode())

        until(lambda: f"first_{run[-8:]}" in runs(), seconds=PATIENCE)
        assert "other" not in runs()
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert "the files are kept" in log.read_text()
        with pytest.raises(OSError):
            runs()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_library_that_is_not_there_is_named(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "hpcrun-toolkit[tensorboard]" in refused("tensorboard", run, code=1)
    assert "hpcrun-toolkit[mlflow]" in refused("export", "mlflow", run, "-o", "x", code=1)
    assert "hpcrun-toolkit[parquet]" in refused("export", "parquet", run, "-o", "x", code=1)
    assert "hpcrun-toolkit[plot]" in refused("metrics", run, "--plot", code=1)
    assert not Path("x").exists()
