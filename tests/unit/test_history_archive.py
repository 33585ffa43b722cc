"""Archived runs and experiments: hidden, never lost, and restored as they were."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hpcrun import Experiment, Run, ScriptRunConfig, Workspace
from hpcrun.errors import HistoryError, NotFoundError, UsageError
from hpcrun.history import database, experiments
from hpcrun.history.experiments import Kept
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.record import RunRecord, new_run_id
from hpcrun.history.store import History
from tests.cli_help import Project, document, make_project, refused, typed


@pytest.fixture
def history(weird_tmp_path: Path) -> Iterator[History]:
    with History.open(weird_tmp_path / ".hpcrun", create=True) as opened:
        yield opened


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    yield from make_project(tmp_path)


def make(experiment: str = "cifar", key: str | None = None) -> RunRecord:
    return RunRecord(id=new_run_id(experiment), experiment=experiment, target="t", scheduler="s", key=key)


def ids(history: History, **asked: bool) -> list[str]:
    return [row.id for row in history.list(**asked)]  # type: ignore[arg-type]


def test_an_archived_run_is_hidden_and_nothing_else(history: History) -> None:
    a, b = (history.create(make())[0].id for _ in range(2))
    assert history.archive(b).archived
    assert ids(history) == [a] and ids(history, only_archived=True) == [b]
    assert ids(history, include_archived=True) == [b, a] == [row.id for row in history.active()]
    assert history.resolve("@-1") == a and history.resolve("@cifar:2") == b
    assert not history.restore(b).archived
    assert ids(history) == [b, a] and ids(history, only_archived=True) == []


def test_an_archived_experiment_hides_its_runs_and_takes_no_new_ones(history: History) -> None:
    a, b = history.create(make("a", key="k"))[0], history.create(make("b"))[0]
    history.archive_experiment("a")
    assert ids(history) == [b.id] and ids(history, only_archived=True) == [a.id]
    assert ids(history, include_archived=True) == [b.id, a.id] == [row.id for row in history.active()]
    assert not history.get(a.id).archived
    assert [(row.name, row.archived) for row in history.experiments()] == [("b", False), ("a", True)]
    assert history.resolve("@-1") == b.id and history.resolve("@a:-1") == a.id
    with pytest.raises(HistoryError, match="'a' is archived") as caught:
        history.create(make("a"))
    assert caught.value.hint == "restore it first: hpcrun restore --experiment a"
    assert history.create(make("a", key="k")) == (a, False)  # nothing new is made of it
    history.restore_experiment("a")
    assert history.create(make("a"))[0].number == 2


def test_what_is_not_there_is_not_archived(history: History) -> None:
    history.create(make())
    with pytest.raises(NotFoundError, match="no experiment 'cifa'") as caught:
        history.archive_experiment("cifa")
    assert caught.value.hint == "did you mean cifar?"
    with pytest.raises(NotFoundError):
        history.archive(new_run_id("cifar"))


def test_experiments_json_says_what_the_index_says(history: History) -> None:
    for name in ("a", "b"):
        history.create(make(name))
        history.archive_experiment(name)
    history.restore_experiment("b")
    expected = {"a": Kept(archived=True), "b": Kept()}
    assert experiments.read_file(history.paths) == expected
    assert history.paths.experiments.stat().st_mode & 0o777 == 0o600
    with history._database.write() as connection:
        assert experiments.read_rows(connection) == expected


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"experiments": {"a": {"x": 1}}}', '{"experiments": {"a": {"last": "1"}}}',
     '{"experiments": {"../a": {}}}'],
)  # fmt: skip
def test_a_damaged_experiments_json_is_named(tmp_path: Path, text: str) -> None:
    paths = WorkspacePaths(tmp_path)
    paths.experiments.write_text(text)
    with pytest.raises(HistoryError, match=r"experiments\.json is damaged"):
        experiments.read_file(paths)


@pytest.mark.parametrize("version", range(len(database.MIGRATIONS)))
def test_a_history_of_an_earlier_schema_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    folder, record = tmp_path / ".hpcrun", make()
    with History.open(folder, create=True) as history:
        history.create(record)
        there = "name FROM pragma_table_info('runs')"
        names = [str(name) for (name,) in history._database.read(f"SELECT {there}")]
        (kept,) = history._database.read(f"SELECT {', '.join(names)} FROM runs")
    WorkspacePaths(folder).database.unlink()
    with closing(sqlite3.connect(WorkspacePaths(folder).database)) as connection, connection:
        for statement in (each for step in database.MIGRATIONS[:version] for each in step):
            connection.execute(statement)
        if version:
            row = dict(zip(names, kept, strict=True))
            known = [name for (name,) in connection.execute(f"SELECT {there}")]  # those of that version
            sql = f"INSERT INTO runs ({', '.join(known)}) VALUES ({', '.join('?' * len(known))})"
            connection.execute(sql, [row[name] for name in known])
        connection.execute(f"PRAGMA user_version = {version}")
    if not version:
        (WorkspacePaths(folder).run(record.id).record).unlink()
        (WorkspacePaths(folder).run(record.id).lock).unlink()
        WorkspacePaths(folder).run(record.id).folder.rmdir()
    with History.open(folder) as history:
        if not version:
            history.create(record)
        assert ids(history) == [record.id]
        history.archive_experiment("cifar")
        assert ids(history) == []
        assert history._database.read("PRAGMA user_version") == [(len(database.MIGRATIONS),)]


def test_in_python(project: Project) -> None:
    with Workspace(project.folder) as ws:
        config = ScriptRunConfig(project.folder, command="true")
        run = Experiment(ws, "a").submit(config)
        run.wait_for_completion()
        run.archive()
        assert list(Experiment(ws, "a").get_runs()) == [] and Run.get(ws, run.id).record.archived
        run.restore()
        Experiment(ws, "a").archive()
        assert [each.id for each in Experiment(ws, "a").get_runs()] == [run.id]
        assert Experiment.list(ws) == []
        names = [[e.name for e in Experiment.list(ws, view_type=v)] for v in ("All", "ArchivedOnly")]
        assert names == [["a"], ["a"]]
        with pytest.raises(HistoryError, match="archived"):
            Experiment(ws, "a").submit(config)
        assert len([*ws.history.paths.runs.iterdir()]) == 1  # the refused one left nothing
        Experiment(ws, "a").reactivate()
        assert [each.name for each in Experiment.list(ws)] == ["a"]
        with pytest.raises(UsageError, match="ActiveOnly, All, ArchivedOnly"):
            Experiment.list(ws, view_type="Some")  # type: ignore[arg-type]
        with pytest.raises(NotFoundError):
            Experiment(ws, "never").archive()


def test_on_the_command_line(project: Project) -> None:
    name = project.config("true")
    for _ in range(2):
        typed("submit", name, "--wait")
    newest, oldest = project.runs
    assert typed("archive", "@-1") == f"{newest}: archived\n"
    listed = [
        [run["id"] for run in document("ls", *how)["runs"]] for how in ((), ("--archived",), ("--all",))
    ]
    assert listed == [[oldest], [newest], [newest, oldest]]
    assert typed("restore", newest) == f"{newest}: restored\n"
    answer = document("archive", "--experiment", "exp")
    assert answer == {"runs": [], "experiments": ["exp"], "archived": True}
    assert document("ls")["runs"] == [] and len(document("ls", "--archived")["runs"]) == 2
    assert "hpcrun restore --experiment exp" in refused("submit", name, code=9)
    assert "no such command" not in refused("archive", code=2)
    assert "no experiment 'expe'" in refused("archive", "@exp:1", "--experiment", "expe", code=4)
    assert not project.record(oldest)["archived"]  # one that is not there, and none is archived
    typed("restore", "--experiment", "exp")
    typed("submit", name, "--wait")
    assert json.loads((project.folder / ".hpcrun" / "experiments.json").read_text())["experiments"] == {
        "exp": {"archived": False, "last": 0}
    }
