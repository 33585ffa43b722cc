"""Runs that are children of others: in the index, in lists, archived, deleted; from Python and by command."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Experiment, Run, ScriptRunConfig, Workspace
from hpcrun.engine.gc import delete, doomed
from hpcrun.errors import HistoryError, NotFoundError
from hpcrun.history import index
from hpcrun.history.database import MIGRATIONS
from hpcrun.history.files import touch
from hpcrun.history.paths import WorkspacePaths
from hpcrun.history.rebuild import _salvage, rebuild
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.history.verify import verify
from hpcrun.states import RunState
from hpcrun.targets import Targets
from tests import cli_help
from tests.cli_help import Project, document, hpcrun, refused, typed
from tests.engine_help import PATIENCE, ScriptedScheduler, source, use, workspace

S = RunState


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History.open(tmp_path / ".hpcrun", create=True) as opened:
        yield opened


def add(history: History, letter: str, parent: str | None = None, experiment: str = "e", **more: Any) -> str:
    """A run that has ended, named by its letter."""
    more = {"state": S.COMPLETED, "target": "local", "scheduler": "local", **more}
    run_id = f"{experiment}_20260131-120000_{letter * 8}"
    record = RunRecord(id=run_id, experiment=experiment, parent=parent, **more)
    return history.create(record)[0].id


def letters(history: History, **asked: Any) -> str:
    return "".join(row.id[-1] for row in history.list(**asked))


@pytest.fixture
def family(history: History) -> dict[str, str]:
    """a, with children b and c; d, a child of b; and f, beside them."""
    a = add(history, "a")
    b, c = add(history, "b", a), add(history, "c", a, state=S.FAILED, tags={"k": "1"})
    d, f = add(history, "d", b), add(history, "f", experiment="other")
    return {"a": a, "b": b, "c": c, "d": d, "f": f}


def test_lists_of_children(history: History, family: dict[str, str]) -> None:
    assert letters(history) == "fdcba"
    assert letters(history, children=False) == "fa"
    assert letters(history, children=False, experiment="e") == "a"
    assert letters(history, children=False, states=[S.FAILED]) == ""
    assert letters(history, parent=family["a"]) == "cb"
    assert letters(history, parent=family["a"], tags={"k": None}) == "c"
    assert letters(history, parent=family["b"], children=False) == "d"
    assert letters(history, parent=family["f"]) == ""
    assert history.count_children(family["a"]) == {"Completed": 1, "Failed": 1}
    assert history.count_children(family["f"]) == {}
    assert list(history.descendants(family["a"])) == [family[name] for name in "dcb"]


@pytest.mark.parametrize(
    "asked", [{"children": False}, {"children": False, "experiment": "e"}, {"parent": "x"}]
)
def test_children_are_found_and_left_out_by_an_index(history: History, asked: dict[str, Any]) -> None:
    nothing: dict[str, Any] = dict.fromkeys(("experiment", "states", "tags", "target", "name"))
    sql, parameters = index.listing(**{**nothing, **asked}, include_archived=False, limit=50, offset=0)
    plan = "\n".join(str(row[3]) for row in history._database.read(f"EXPLAIN QUERY PLAN {sql}", parameters))
    assert "runs_parent" in plan or "runs_top" in plan
    assert "TEMP B-TREE" not in plan


def test_what_is_asked_for_by_at_is_what_lists_show(history: History, family: dict[str, str]) -> None:
    assert history.resolve("@-1") == family["f"]
    assert history.resolve("@-2") == history.resolve("@e:-1") == family["a"]
    assert history.resolve("@e:3") == family["c"], "by its number any run is found"
    with pytest.raises(NotFoundError):
        history.resolve("@failed")


def test_who_can_be_a_parent(history: History, family: dict[str, str]) -> None:
    with pytest.raises(NotFoundError, match="to be the parent"):
        add(history, "g", "e_20260131-120000_zzzzzzzz")
    with pytest.raises(HistoryError, match="is of its experiment, 'e', not of 'third'"):
        add(history, "g", family["a"], "third")
    history.archive(family["a"])
    with pytest.raises(HistoryError, match="takes no new children") as caught:
        add(history, "g", family["a"])
    assert f"hpcrun restore {family['a']}" in str(caught.value.hint)
    with pytest.raises(HistoryError, match="takes no new children"):
        history.check_open("e", family["a"])
    assert letters(history, include_archived=True) == "fdcba"
    with pytest.raises(HistoryError, match=r"parent of run .* never changes"):
        history.update(family["d"], lambda record: setattr(record, "parent", None))


def test_children_are_archived_and_restored_with_their_parent(
    history: History, family: dict[str, str]
) -> None:
    history.archive(family["b"])
    assert letters(history) == "fca"
    history.archive(family["a"])
    assert letters(history) == "f" and letters(history, only_archived=True) == "dcba"
    history.restore(family["a"])
    assert letters(history) == "fdcba"


def test_children_are_deleted_with_their_parent(history: History, family: dict[str, str]) -> None:
    with pytest.raises(HistoryError, match="has children"):
        history.delete(family["b"])
    found, left = doomed(history, run_ids=[family["b"]])
    assert [run.record.id[-1] for run in found] == ["d", "b"] and not left
    for run in found:
        delete(history, Targets(history.paths.folder.parent), run)
    assert letters(history) == "fca"
    history.archive(family["a"])
    history.restore(family["c"])
    found, left = doomed(history, archived=True)
    assert found == [] and left == {family["a"]: "it has children that stay"}
    history.archive(family["c"])
    assert [run.record.id[-1] for run in doomed(history, archived=True)[0]] == ["c", "a"]


def test_a_parent_whose_child_goes_on_is_not_deleted(history: History) -> None:
    a = add(history, "a")
    add(history, "b", a, state=S.RUNNING)
    with pytest.raises(HistoryError, match="is Running, and is not deleted"):
        doomed(history, run_ids=[a])


def test_the_index_of_children_can_be_made_anew(history: History, family: dict[str, str]) -> None:
    paths = history.paths
    before = history._database.read("SELECT id, parent FROM runs ORDER BY seq")
    history.close()
    for damage in (lambda: None, paths.database.unlink, lambda: paths.database.write_bytes(b"x" * 5000)):
        damage()
        assert rebuild(paths).left == {}
        with History.open(paths.folder) as again:
            assert again._database.read("SELECT id, parent FROM runs ORDER BY seq") == before
            assert letters(again, children=False) == "fa"
        assert verify(paths).findings == []


def of_version(paths: WorkspacePaths, version: int) -> None:
    """Put the database of an earlier schema, with what of each run it can hold, in the place of this one."""
    with closing(sqlite3.connect(paths.database)) as connection:
        cursor = connection.execute("SELECT * FROM runs")
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
    for path in paths.folder.glob("history.db*"):
        path.unlink()
    touch(paths.database)
    with closing(sqlite3.connect(paths.database)) as connection, connection:
        for statement in (each for step in MIGRATIONS[:version] for each in step):
            connection.execute(statement)
        known = [row[1] for row in connection.execute("PRAGMA table_info(runs)")]
        sql = f"INSERT INTO runs ({', '.join(known)}) VALUES ({', '.join('?' * len(known))})"
        connection.executemany(sql, [[row[name] for name in known] for row in rows])
        connection.execute(f"PRAGMA user_version = {version}")


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_a_database_from_before_there_were_children(tmp_path: Path, version: int) -> None:
    paths = WorkspacePaths(tmp_path / ".hpcrun")
    with History.open(paths.folder, create=True) as history:
        a, b = add(history, "a"), add(history, "b")
    of_version(paths, version)
    assert verify(paths).findings == [], "it is looked at as it is, and not changed"
    with closing(sqlite3.connect(paths.database)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (version,)
    with History.open(paths.folder) as history:
        assert letters(history, children=False) == "ba"
        add(history, "c", a)
        assert letters(history, children=False) == "ba" and letters(history, parent=a) == "c"
    of_version(paths, version)
    with closing(
        sqlite3.connect(paths.database)
    ) as connection:  # as rebuild reads what is too damaged to open
        assert _salvage(connection).entries.keys() == {a, b, a.replace("aaaaaaaa", "cccccccc")}


TRAIN = "print('said')"


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with workspace(tmp_path / "ws") as made:
        use(made, ScriptedScheduler())
        yield made


def test_in_python(ws: Workspace, tmp_path: Path) -> None:
    config = ScriptRunConfig(source(tmp_path / "src", train_py=TRAIN), "train.py")
    experiment = Experiment(ws, "cifar")
    parent = experiment.submit(config)
    one = parent.submit_child(config, tags={"lr": "1"}, display_name="one")
    two = parent.submit_child(config, tags={"lr": "2"}, key="k")
    below = one.submit_child(config, tags={"lr": "1"})
    assert parent.submit_child(config, key="k").id == two.id
    assert (one.display_name, one.experiment.name, one.number) == ("one", "cifar", 2)
    assert one.parent is not None and one.parent.id == parent.id and parent.parent is None

    def ids(runs: Iterator[Run]) -> list[str]:
        return [run.id for run in runs]

    assert ids(parent.get_children()) == [two.id, one.id]
    assert ids(parent.get_children(recursive=True)) == [below.id, two.id, one.id]
    assert ids(parent.get_children(recursive=True, tags={"lr": "1"})) == [below.id, one.id]
    assert ids(parent.get_children(tags="lr", status="Queued", type="script")) == [two.id, one.id]
    assert ids(parent.get_children(status="Failed")) == ids(below.get_children()) == []
    two.add_properties({"p": "1"})
    assert ids(parent.get_children(properties={"p": "1"})) == [two.id]
    assert ids(experiment.get_runs()) == [parent.id]
    assert ids(Run.list(experiment, include_children=True)) == [below.id, two.id, one.id, parent.id]
    assert one.get_details()["parentRunId"] == parent.id
    one.archive()
    assert ids(parent.get_children(recursive=True)) == [two.id]
    parent.archive()
    assert ids(parent.get_children()) == [two.id, one.id], "asked for by the parent that is archived itself"
    with pytest.raises(HistoryError, match="takes no new children"):
        parent.submit_child(config)
    assert len(ws.runs(limit=None)) == 0
    parent.restore()
    assert len(ids(parent.get_children(recursive=True))) == 3


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    yield from cli_help.make_project(tmp_path)


def test_on_the_command_line(project: Project) -> None:
    name = project.config("true")
    parent = document("submit", name, "--experiment", "sweep", "--wait")["id"]
    child = document("submit", name, "--parent", "@-1", "--name", "kid", "--wait")
    assert (child["parent"], child["experiment"], child["number"]) == (parent, "sweep", 2)

    def listed(*args: str) -> list[str]:
        return [run["id"] for run in document("ls", *args)["runs"]]

    assert listed() == [parent]
    assert listed("--children") == listed("--all") == [child["id"], parent]
    assert listed("--parent", "@sweep:-1") == [child["id"]]
    assert typed("ls", "--parent", parent, "--columns", "id,parent").split()[2:] == [
        child["id"][-8:],
        parent[-8:],
    ]
    assert hpcrun("ls", "--name", "kid").stderr == (
        "no runs like that; but children of other runs: add --children\n"
    )
    assert f"children    1: 1 Completed\n            hpcrun ls --parent {parent[-8:]}\n" in typed(
        "show", parent
    )
    assert f"parent      {parent}\n" in typed("show", "kid")
    assert document("show", parent)["children"] == [child["id"]]
    assert typed("archive", parent) == f"{parent}: archived, and 1 below it\n"
    assert listed("--children") == [] and listed("--parent", parent) == [child["id"]]
    assert "takes no new children" in refused("submit", name, "--parent", parent, code=9)
    typed("restore", parent)
    assert "leave --experiment out" in refused(
        "submit", name, "--parent", parent, "--experiment", "x", code=2
    )
    assert "no run 'nobody'" in refused("submit", name, "--parent", "nobody", code=4)
    again = document("rerun", "kid", "--wait")
    assert again["parent"] is None and again["experiment"] == "sweep"
    assert len(project.runs) == 3
    out = typed("history", "gc", parent, "--yes")
    assert "deleted: 2 runs" in out and project.runs == [again["id"]]


def test_a_job_submits_children_of_its_own(project: Project) -> None:
    project.config("echo from below", "child.yaml", experiment="whatever")
    text = f"'{sys.executable}' -m hpcrun submit '{project.folder}/child.yaml' --parent \"$HPCRUN_RUN_ID\""
    # More may run at once than there are processors, or the child could not begin while the parent waits.
    (project.folder / "site_configs").mkdir()
    (project.folder / "site_configs" / "wide.yaml").write_text(
        '{"scheduler": {"type": "local", "max_running": 4}}'
    )
    parent = document("submit", project.config(f"{text} -t wide --wait"), "-t", "wide", "--wait")
    assert parent["state"] == "Completed", typed("logs", parent["id"])
    (child,) = document("show", parent["id"])["children"]
    found = document("show", child)
    assert (found["parent"], found["state"], found["experiment"]) == (parent["id"], "Completed", "exp")


def test_a_child_is_waited_for_like_any_run(ws: Workspace, tmp_path: Path) -> None:
    with workspace(tmp_path / "real") as real:
        config = ScriptRunConfig(source(tmp_path / "src", train_py=TRAIN), "train.py")
        parent = Experiment(real, "e").submit(config)
        child = parent.submit_child(config)
        for run in (parent, child):
            assert run.wait_for_completion(timeout=PATIENCE)["status"] == "Completed"
