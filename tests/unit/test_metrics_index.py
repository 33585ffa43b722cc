"""What runs measured, in the index: counted once, whatever is killed, and made anew from the files."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcrun.engine.measured import AT_A_LOOK, take_in, take_in_many
from hpcrun.history import measures
from hpcrun.history.measures import Metric
from hpcrun.history.rebuild import rebuild
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.history.verify import verify
from hpcrun.metrics import sums
from hpcrun.metrics.reading import file_of
from hpcrun.metrics.sums import Look, Mark, look
from hpcrun.states import RunState
from tests.unit.test_history_faults import killed_at
from tests.unit.test_history_store import make, sql


@pytest.fixture
def history(weird_tmp_path: Path) -> Iterator[History]:
    with History.open(weird_tmp_path / ".hpcrun", create=True) as opened:
        yield opened


def line(name: str, value: Any, step: float | None = None, **more: Any) -> str:
    point = {"n": name, "v": value, "t": 1_760_000_000.5, **({} if step is None else {"s": step}), **more}
    return json.dumps(point) + "\n"


def append(history: History, record: RunRecord, *lines: str, rank: int = 0) -> Path:
    folder = history.seen(record).metrics
    folder.mkdir(exist_ok=True)
    path = file_of(folder, rank)
    with path.open("a") as file:
        file.write("".join(lines))
    return path


def metrics(history: History, record: RunRecord) -> dict[str, Metric]:
    return {each.name: each for each in history.metrics_of([record.id]).get(record.id, [])}


def lasts(history: History, record: RunRecord) -> dict[str, Any]:
    return {name: each.last for name, each in metrics(history, record).items()}


def test_what_comes_is_counted_once(history: History) -> None:
    run, _ = history.create(make())
    take_in(history, run)
    assert metrics(history, run) == {}
    append(history, run, line("loss", 0.5, 1), line("loss", 0.75, 2), line("acc", 1))
    for _ in range(3):
        take_in(history, run)
    loss = metrics(history, run)["loss"]
    assert (loss.count, loss.last, loss.least, loss.most, loss.step) == (2, 0.75, 0.5, 0.75, 2)
    assert (loss.kind, loss.rank, loss.at) == ("scalar", 0, 1_760_000_000.5)
    append(history, run, line("loss", 0.25, 3), '{"n": "torn", ')
    take_in(history, run)
    loss = metrics(history, run)["loss"]
    assert (loss.count, loss.last, loss.least, loss.most, loss.step) == (3, 0.25, 0.25, 0.75, 3)
    append(history, run, '"v": 1, "t": 2}\n')
    take_in(history, run)
    assert lasts(history, run) == {"loss": 0.25, "acc": 1, "torn": 1}


def test_values_that_are_no_plain_numbers(history: History) -> None:
    run, _ = history.create(make())
    append(
        history,
        run,
        line("nan", 1), line("nan", math.nan), line("inf", -math.inf), line("true", True),
        line("none", None), line("text", "x" * 500), line("huge", 10**40), line("list", [3, 1, 2], k="list"),
        line("row", {"a": 1}, k="row"), line("half \ud800", 1), line("big", 2**63 - 1), line("", 1),
    )  # fmt: skip
    take_in(history, run)
    found = metrics(history, run)
    assert lasts(history, run) == {
        "nan": "NaN", "inf": "-Infinity", "true": True, "none": None, "text": "x" * sums.MAX_TEXT,
        "huge": 1e40, "list": 2, "row": None, "half \\ud800": 1, "big": 2**63 - 1,
    }  # fmt: skip
    assert (found["nan"].count, found["nan"].least, found["nan"].most) == (2, 1, 1)
    assert (found["list"].count, found["list"].least, found["list"].most) == (3, 1, 3)
    assert found["inf"].least == -math.inf
    json.dumps(lasts(history, run), allow_nan=False)


def test_rank_0_counts_and_others_only_where_it_has_none(history: History) -> None:
    run, _ = history.create(make())
    append(history, run, line("loss", 5), line("mine", 2), rank=3)
    append(history, run, line("mine", 7), rank=2)
    take_in(history, run)
    assert lasts(history, run) == {"loss": 5, "mine": 7}
    append(history, run, line("loss", 1))
    append(history, run, line("loss", 9), line("mine", 9), rank=3)
    append(history, run, line("mine", 8), rank=2)
    take_in(history, run)
    found = metrics(history, run)
    assert lasts(history, run) == {"loss": 1, "mine": 8}
    assert (found["loss"].count, found["loss"].rank, found["loss"].most) == (1, 0, 1)
    assert (found["mine"].count, found["mine"].rank, found["mine"].least) == (2, 2, 7)


def test_a_file_that_was_written_anew(history: History) -> None:
    run, _ = history.create(make())
    path = append(history, run, line("loss", 5), line("old", 1))
    take_in(history, run)
    path.unlink()
    append(history, run, line("loss", 1))
    take_in(history, run)
    assert lasts(history, run) == {"loss": 1}
    assert metrics(history, run)["loss"].count == 1


def test_only_so_many_names_are_in_the_index(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "MAX_NAMES", 10)
    run, _ = history.create(make())
    append(history, run, *(line(f"m{i}", i) for i in range(8)))
    take_in(history, run)
    assert not history.left_out(run.id)
    append(history, run, *(line(f"m{i}", -i) for i in range(5, 30)))
    take_in(history, run)
    assert list(lasts(history, run).values()) == [0, 1, 2, 3, 4, -5, -6, -7, -8, -9]
    assert history.left_out(run.id)


def test_long_lines_are_passed_over(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "CHUNK", 200)
    run, _ = history.create(make())
    append(history, run, line("a", 1), line("b", "x" * 1000), line("c", 2), "y" * 450)
    take_in(history, run)
    take_in(history, run)
    assert lasts(history, run) == {"a": 1, "c": 2}
    append(history, run, "y" * 300 + "\n" + line("d", 3))
    take_in(history, run)
    assert lasts(history, run) == {"a": 1, "c": 2, "d": 3}
    append(history, run, line("n" * 260, 1))
    monkeypatch.setattr(sums, "CHUNK", 2000)
    take_in(history, run)
    assert len(lasts(history, run)) == 3
    assert history.left_out(run.id)


@pytest.mark.parametrize("what", ["pipe", "link", "folder", "device"])
def test_what_is_no_file_is_not_read(history: History, what: str, tmp_path: Path) -> None:
    run, _ = history.create(make())
    folder = history.seen(run).metrics
    folder.mkdir()
    path = file_of(folder, 0)
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        secret = tmp_path / "secret"
        secret.write_text(line("secret", 1))
        path.symlink_to(secret if what == "link" else Path("/dev/zero"))
    append(history, run, line("loss", 1), rank=1)
    take_in(history, run)
    assert lasts(history, run) == {"loss": 1}


def test_a_run_that_goes_on_is_read_bit_by_bit(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "CHUNK", 1000)
    run, _ = history.create(make())
    append(history, run, *(line("loss", i) for i in range(1000)))
    take_in_many(history, [run])
    some = metrics(history, run)["loss"].count
    assert 0 < some <= AT_A_LOOK * 1000 / len(line("loss", 1))
    take_in_many(history, [run])
    assert some < metrics(history, run)["loss"].count < 1000
    take_in(history, run)
    assert metrics(history, run)["loss"].count == 1000


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.builds(lambda n, v: line(n, v).encode(), st.sampled_from("abc"), st.floats()),
            st.binary(max_size=60).map(lambda data: data.replace(b"\n", b"") + b"\n"),
            st.binary(min_size=100, max_size=300).map(lambda data: data.replace(b"\n", b"") + b"\n"),
        )
    ),
    st.lists(st.integers(0, 3000), max_size=8),
    st.sampled_from([70, 128, 10**6]),
)
def test_whatever_the_looks_the_sums_are_the_same(lines: list[bytes], cuts: list[int], chunk: int) -> None:
    """A file that grows under any number of looks comes to what one look at all of it does."""
    import tempfile

    data = b"".join(lines)
    short = [each for each in lines if len(each) <= chunk]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path, whole = Path(folder, "rank_000.jsonl"), Path(folder, "rank_001.jsonl")
        patch.setattr(sums, "CHUNK", chunk)
        mark = Mark()
        total: dict[str, int] = {}
        for end in [*sorted(cuts), len(data)]:
            path.write_bytes(data[:end])
            while (found := look(path, 0, mark)) is not None:
                mark = found.mark
                for name, each in found.sums.items():
                    total[name] = total.get(name, 0) + each.count
                if not found.more:
                    break
        patch.setattr(sums, "CHUNK", 10**9)
        whole.write_bytes(b"".join(short))
        expected = look(whole, 0, Mark()) or Look(Mark())
        assert total == {name: each.count for name, each in expected.sums.items()}


def grown(folder: Path, steps: int) -> None:
    """All that writes measures: a run that measures, its look, its end and its deletion."""
    with History.open(folder, create=True) as history:
        run, _ = history.create(make(parameters={"lr": 0.1, "amp": True}))
        for step in range(steps):
            append(history, run, line("loss", step), line(f"at {step}", step))
            take_in(history, run)
        history.update(run.id, lambda record: setattr(record, "state", RunState.CANCELED))


@pytest.mark.slow
def test_killed_anywhere_nothing_is_counted_twice(tmp_path: Path) -> None:
    folder, chance = tmp_path / ".hpcrun", random.Random(20261123)
    grown(folder, 1)
    killed = 0
    for _ in range(40):
        killed += killed_at(partial(grown, folder, 5), chance.randrange(1, 160))
    assert killed > 20
    with History.open(folder) as history:
        for row in history.list(limit=None):
            run = history.get(row.id)
            take_in(history, run)
            path = file_of(history.seen(run).metrics, 0)
            steps = path.read_text().count('"loss"') if path.exists() else 0
            found = metrics(history, run)
            assert len(found) == (steps + 1 if steps else 0)
            assert found.get("loss") is None or found["loss"].count == steps
            assert history.parameters_of([run.id])[run.id] == {"lr": 0.1, "amp": True}


def looks(folder: Path, run_id: str, times: int) -> None:
    with History.open(folder) as history:
        for _ in range(times):
            take_in(history, history.get(run_id))


def test_two_processes_count_nothing_twice(tmp_path: Path) -> None:
    folder = tmp_path / ".hpcrun"
    with History.open(folder, create=True) as history:
        run, _ = history.create(make())
        append(history, run, line("loss", 0))
    fork = multiprocessing.get_context("spawn")
    others = [fork.Process(target=looks, args=(folder, run.id, 150)) for _ in range(2)]
    for each in others:
        each.start()
    with History.open(folder) as history:
        for step in range(1, 500):
            append(history, run, line("loss", step))
        for each in others:
            each.join()
            assert each.exitcode == 0
        take_in(history, run)
        loss = metrics(history, run)["loss"]
        assert (loss.count, loss.last, loss.least, loss.most) == (500, 499, 0, 499)


def test_what_another_has_counted_in_meanwhile_is_not_counted_again(history: History) -> None:
    run, _ = history.create(make())
    append(history, run, line("loss", 1))
    ours = [*measures.look_at(history.seen(run), history.metric_marks(run.id))]
    with History.open(history.paths.folder) as other:
        take_in(other, run)
        append(history, run, line("loss", 2))
        later = [*measures.look_at(history.seen(run), history.metric_marks(run.id))]
        take_in(other, run)
    history.take_in_metrics([(run.id, ours)])
    history.take_in_metrics([(run.id, later), (run.id, later)])
    assert metrics(history, run)["loss"].count == 2
    append(history, run, line("loss", 3))
    take_in(history, run)
    assert (metrics(history, run)["loss"].count, lasts(history, run)) == (3, {"loss": 3})


def ended(history: History, record: RunRecord) -> RunRecord:
    return history.update(record.id, lambda r: setattr(r, "state", RunState.CANCELED))


def test_the_index_is_made_anew_from_the_files(history: History) -> None:
    run, _ = history.create(make(parameters={"lr": 0.1, "amp": True, "opt": "adam"}))
    append(history, run, line("loss", 1), line("loss", 3), line("nan", math.nan))
    append(history, run, line("other", 1), rank=1)
    take_in(history, ended(history, run))
    tables = [sql(history, f"SELECT * FROM {table}") for table in measures.TABLES]
    assert [len(rows) for rows in tables] == [3, 2, 3]
    with closing(sqlite3.connect(history.paths.database)) as connection, connection:
        connection.execute("UPDATE metrics SET count = 17")
        connection.execute("DELETE FROM parameters")
    paths = history.paths
    assert [finding.what for finding in verify(paths).findings] == ["row"]
    history.close()
    rebuild(paths)
    with History.open(paths.folder) as again:
        assert [sql(again, f"SELECT * FROM {table}") for table in measures.TABLES] == tables
    assert verify(paths).findings == []
    paths.database.unlink()
    rebuild(paths)
    with History.open(paths.folder) as again:
        assert [sql(again, f"SELECT * FROM {table}") for table in measures.TABLES] == tables


def test_verify_finds_metrics_that_are_not_in_the_index(history: History) -> None:
    run, _ = history.create(make())
    append(history, run, line("loss", 1))
    assert verify(history.paths).findings == []  # it goes on, and is looked at again
    ended(history, run)
    (finding,) = verify(history.paths).findings
    assert (finding.what, finding.where) == ("metrics", run.id)
    take_in(history, run)
    assert verify(history.paths).findings == []


def test_a_deleted_run_leaves_nothing(history: History) -> None:
    run, _ = history.create(make(parameters={"lr": 1}))
    append(history, run, line("loss", 1))
    take_in(history, ended(history, run))
    history.delete(run.id)
    take_in_many(history, [run])
    assert [sql(history, f"SELECT * FROM {table}") for table in measures.TABLES] == [[], [], []]


def test_parameters_follow_the_record(history: History) -> None:
    run, _ = history.create(make(parameters={"lr": 0.1, "big": 10**30, "list": [1], "amp": False}))
    assert history.parameters_of([run.id]) == {run.id: {"lr": 0.1, "big": 1e30, "amp": False}}
    history.update(run.id, lambda record: record.parameters.update(lr="high"))
    assert history.parameters_of([run.id])[run.id]["lr"] == "high"
    assert verify(history.paths).findings == []


def test_parameters_of_ten_thousand_runs_at_once(history: History) -> None:
    runs = history.create_all([make(key=str(i)) for i in range(20)])
    seqs = dict(sql(history, "SELECT id, seq FROM runs"))
    with history._database.write() as connection:
        measures.put_parameters(connection, [(seqs[run.id], {"n": i}) for i, run in enumerate(runs)])
    assert history.parameters_of([run.id for run in runs]) == {r.id: {"n": i} for i, r in enumerate(runs)}
