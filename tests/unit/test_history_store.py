"""Runs are created once, read back, changed without loss, and repaired after a kill."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hpcrun.errors import HistoryError, NotFoundError
from hpcrun.history.database import Database
from hpcrun.history.files import locked
from hpcrun.history.record import RunRecord, new_run_id
from hpcrun.history.store import History
from hpcrun.states import FINAL, Reason, RunState, may_move


def make(experiment: str = "cifar", **more: Any) -> RunRecord:
    more = {"target": "snellius:gpu", "scheduler": "slurm", **more}
    return RunRecord(id=new_run_id(experiment), experiment=experiment, **more)


@pytest.fixture
def history(weird_tmp_path: Path) -> Iterator[History]:
    with History.open(weird_tmp_path / ".hpcrun", create=True) as opened:
        yield opened


def sql(history: History, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(history.paths.database)) as connection, connection:
        return connection.execute(statement).fetchall()


def moved(state: RunState, reason: str = "") -> Any:
    def change(record: RunRecord) -> None:
        record.state, record.reason = state, reason

    return change


def test_a_workspace_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no workspace"):
        History.open(tmp_path / ".hpcrun")
    assert not (tmp_path / ".hpcrun").exists()
    with pytest.raises(HistoryError, match="cannot make the folder"):
        History.open(tmp_path / "nowhere" / ".hpcrun", create=True)


def test_a_workspace_hides_from_git_and_from_others(history: History) -> None:
    assert history.paths.ignore.read_text() == "*\n"
    assert history.paths.folder.stat().st_mode & 0o777 == 0o700


def test_everything_is_for_the_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    os.umask(0)
    with History.open(tmp_path / ".hpcrun", create=True) as history:
        run, _ = history.create(make())
        history.update(run.id, moved(RunState.QUEUED))
        found = [history.paths.folder, *history.paths.folder.rglob("*")]
        modes = {str(path.relative_to(tmp_path)): oct(path.stat().st_mode & 0o777) for path in found}
        assert {name.rpartition("-")[2] for name in modes} >= {"wal", "shm"}  # the helper files too
        wrong = {
            name: bits
            for name, bits in modes.items()
            if bits != ("0o700" if (tmp_path / name).is_dir() else "0o600")
        }
        assert not wrong


def test_a_new_run_has_a_row_a_folder_and_a_record(history: History) -> None:
    run, new = history.create(make(config={"a": [1, None, "ä"]}, tags={"who": "me"}, key="k", run_dir="/r"))
    assert new and run.number == 1
    assert history.get(run.id) == run
    assert json.loads(history.paths.run(run.id).record.read_bytes())["config"] == {"a": [1, None, "ä"]}
    assert run.states == [{"state": "NotStarted", "reason": "", "at": run.created}]
    (row,) = history.list(tags={"who": "me"})
    assert (row.id, row.number, row.state, row.key) == (run.id, 1, RunState.NOT_STARTED, "k")
    assert (row.target, row.scheduler, row.created, row.run_dir) == (
        "snellius:gpu",
        "slurm",
        run.created,
        "/r",
    )


def test_numbers_rise_within_each_experiment(history: History) -> None:
    got = [history.create(make(name))[0].number for name in ("a", "b", "a", "a", "b")]
    assert got == [1, 1, 2, 3, 2]


def test_a_key_is_used_once(history: History) -> None:
    first, new = history.create(make(key="k", config={"lr": 1}))
    again, new_again = history.create(make("other", key="k", config={"lr": 2}))
    assert (new, new_again) == (True, False)
    assert again == first
    assert len(history.list()) == len(list(history.paths.runs.iterdir())) == 1
    row = history.by_key("k")
    assert row is not None and row.id == first.id
    assert history.by_key("K") is None
    assert history.create(make("other"))[0].number == 1  # the refused run used up no number


def test_many_runs_come_to_be_together_or_not_at_all(history: History) -> None:
    first = [make(key="a"), make(), make("other")]
    assert [record.number for record in history.create_all(first)] == [1, 2, 1]
    assert [history.get(record.id).key for record in first] == ["a", None, None]
    for bad in (make(key="a"), first[1]):
        with pytest.raises(HistoryError, match="already"):
            history.create_all([make(), make(), bad])
        assert len(history.list()) == 3 == len(list(history.paths.runs.iterdir()))


def test_an_id_is_used_once(history: History) -> None:
    run, _ = history.create(make(config={"a": 1}))
    with pytest.raises(HistoryError, match="already"):
        history.create(run)
    assert history.get(run.id) == run


@pytest.mark.parametrize(("run_id", "experiment"), [("../x", "a"), ("a_20260131-120000_abcdefgh", "a b")])
def test_bad_names_are_not_stored(history: History, run_id: str, experiment: str) -> None:
    with pytest.raises(HistoryError, match="not a run id"):
        history.create(RunRecord(id=run_id, experiment=experiment, target="t", scheduler="s"))
    assert history.list() == []


def test_text_that_is_not_utf8_is_kept(history: History) -> None:
    odd = os.fsdecode(b"caf\xe9")
    run, _ = history.create(make(key=odd, display_name=odd, tags={odd: odd}, run_dir=odd))
    assert history.get(run.id).run_dir == odd
    row = history.by_key(odd)
    assert row is not None and row.id == run.id
    assert [row.id for row in history.list(tags={odd: odd}, name=odd)] == [run.id]
    assert history.create(make(key=odd))[1] is False


def test_get_of_what_is_not_there(history: History) -> None:
    run, _ = history.create(make())
    with pytest.raises(NotFoundError) as caught:
        history.get(run.id[:-1] + ("a" if run.id[-1] != "a" else "b"))
    assert run.id in str(caught.value)
    for bad in ("", "../..", run.id + "/../" + run.id, "x\n", "/"):
        with pytest.raises(NotFoundError):
            history.get(bad)
        with pytest.raises(NotFoundError):
            history.update(bad, lambda record: None)


def test_a_change_reaches_the_record_and_the_row(history: History) -> None:
    run, _ = history.create(make())

    def change(record: RunRecord) -> None:
        record.state, record.reason = RunState.FAILED, Reason.OUT_OF_MEMORY
        record.exit_code, record.ended, record.message = 137, "2026-01-31T12:00:00.000Z", "too big"
        record.display_name, record.job_id, record.tags["a"] = "blue", "17", "b"

    after = history.update(run.id, change)
    assert after == history.get(run.id)
    (row,) = history.list(tags={"a": "b"})
    assert (row.state, row.reason, row.exit_code) == (RunState.FAILED, "OutOfMemory", 137)
    assert (row.ended, row.message, row.display_name) == ("2026-01-31T12:00:00.000Z", "too big", "blue")
    assert row.job_id == "17"
    assert list(history.paths.unsettled.iterdir()) == []


def test_states_are_noted_with_their_times(history: History) -> None:
    run, _ = history.create(make())
    history.update(run.id, moved(RunState.QUEUED))
    history.update(run.id, moved(RunState.QUEUED))
    history.update(run.id, moved(RunState.QUEUED, "Held"))
    history.update(run.id, moved(RunState.RUNNING))
    states = history.get(run.id).states
    assert [(each["state"], each["reason"]) for each in states] == [
        ("NotStarted", ""), ("Queued", ""), ("Queued", "Held"), ("Running", ""),
    ]  # fmt: skip
    assert [each["at"] for each in states] == sorted(each["at"] for each in states)


@pytest.mark.parametrize("old", RunState)
@pytest.mark.parametrize("new", RunState)
def test_only_legal_moves(history: History, old: RunState, new: RunState) -> None:
    run, _ = history.create(make(state=old))
    if old is new or may_move(old, new):
        assert history.update(run.id, moved(new)).state is new
    else:
        with pytest.raises(HistoryError, match=f"is {old} and cannot become {new}"):
            history.update(run.id, moved(new))
        assert history.get(run.id) == run


@pytest.mark.parametrize("final", sorted(FINAL))
def test_a_run_that_ended_may_still_be_tagged(history: History, final: RunState) -> None:
    run, _ = history.create(make(state=final))
    assert history.set_tags(run.id, {"best": "yes"}).state is final


@pytest.mark.parametrize("name", ["id", "number", "experiment", "created", "key"])
def test_what_a_run_is_never_changes(history: History, name: str) -> None:
    run, _ = history.create(make())
    with pytest.raises(HistoryError, match=f"the {name} of run"):
        history.update(run.id, lambda record: setattr(record, name, 7))
    assert history.get(run.id) == run


def test_a_change_that_raises_changes_nothing(history: History) -> None:
    run, _ = history.create(make())

    def change(record: RunRecord) -> None:
        record.tags["half"] = "done"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        history.update(run.id, change)
    assert history.get(run.id) == run
    assert history.set_tags(run.id, {"a": "b"}).tags == {"a": "b"}  # and the lock is free


def test_a_change_of_nothing_writes_nothing(history: History) -> None:
    run, _ = history.create(make(tags={"a": "b"}))
    before = history.paths.run(run.id).record.stat()
    history.set_tags(run.id, {"a": "b", "gone": None})
    history.update(run.id, moved(RunState.NOT_STARTED))
    assert history.paths.run(run.id).record.stat() == before


def test_tags_are_set_and_taken_away(history: History) -> None:
    run, _ = history.create(make(tags={"a": "1", "b": "2"}))
    assert history.set_tags(run.id, {"a": None, "b": "3", "c": "4"}).tags == {"b": "3", "c": "4"}
    assert history.list(tags={"a": None}) == [] == history.list(tags={"b": "2"})
    assert len(history.list(tags={"b": "3", "c": "4"})) == 1


def test_keys_of_a_newer_version_survive_a_change(history: History) -> None:
    run, _ = history.create(make())
    path = history.paths.run(run.id).record
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2, "carbon": 3}))
    history.set_tags(run.id, {"a": "b"})
    data = json.loads(path.read_text())
    assert (data["version"], data["carbon"], data["tags"]) == (2, 3, {"a": "b"})


def test_a_run_that_is_being_changed_is_waited_for(history: History) -> None:
    run, _ = history.create(make())
    entered, done = threading.Event(), threading.Event()

    def slow(record: RunRecord) -> None:
        entered.set()
        assert done.wait(30)
        record.tags["slow"] = "1"

    first = threading.Thread(target=history.update, args=(run.id, slow))
    second = threading.Thread(target=history.set_tags, args=(run.id, {"quick": "1"}))
    first.start()
    assert entered.wait(30)
    second.start()
    assert history.get(run.id).tags == {}  # reading waits for nobody
    done.set()
    first.join()
    second.join()
    assert history.get(run.id).tags == {"slow": "1", "quick": "1"}


def test_a_damaged_record_is_named_and_not_overwritten(history: History) -> None:
    run, _ = history.create(make())
    path = history.paths.run(run.id).record
    path.write_bytes(path.read_bytes()[:40])
    damaged = path.read_bytes()
    with pytest.raises(HistoryError, match=r"run\.json: not JSON"):
        history.get(run.id)
    with pytest.raises(HistoryError, match=r"run\.json: not JSON"):
        history.set_tags(run.id, {"a": "b"})
    assert path.read_bytes() == damaged


def test_a_record_that_cannot_be_read(history: History) -> None:
    run, _ = history.create(make())
    path = history.paths.run(run.id).record
    path.unlink()
    path.mkdir()
    with pytest.raises(HistoryError, match="cannot read"):
        history.get(run.id)


def test_a_record_that_is_gone_is_said_to_be(history: History) -> None:
    run, _ = history.create(make())
    history.set_tags(run.id, {"a": "b"})
    history.paths.run(run.id).record.unlink()
    with pytest.raises(HistoryError, match=r"the record of .* is gone"):
        history.get(run.id)


def test_a_run_whose_creation_was_cut_off_is_finished_by_whoever_looks(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: History, run_id: str, text: str) -> None:
        raise KeyboardInterrupt

    record = make(key="k", config={"lr": 0.1}, tags={"a": "b"})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(History, "_make_run", killed)
        history.create(record)
    assert not history.paths.run(record.id).folder.exists()
    assert [row.id for row in history.active()] == [record.id]
    again, new = history.create(make(key="k"))
    assert (new, again.id, again.config, again.number) == (False, record.id, {"lr": 0.1}, 1)
    assert history.get(record.id) == again
    assert history.update(record.id, moved(RunState.QUEUED)).state is RunState.QUEUED


def test_the_one_who_finishes_a_creation_does_not_undo_what_came_after(history: History) -> None:
    run, _ = history.create(make())
    changed = history.set_tags(run.id, {"a": "b"})
    history._make_run(run.id, run.to_json())
    assert history.get(run.id) == changed


@pytest.mark.parametrize("repair", ["open", "update"])
def test_a_row_left_behind_its_record_is_brought_in_line(
    history: History, monkeypatch: pytest.MonkeyPatch, repair: str
) -> None:
    def killed(self: History, record: RunRecord) -> None:
        raise KeyboardInterrupt

    run, _ = history.create(make())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(History, "_settle_run", killed)
        history.update(run.id, moved(RunState.RUNNING))
    assert history.get(run.id).state is RunState.RUNNING
    assert history.list()[0].state is RunState.NOT_STARTED
    if repair == "open":
        History.open(history.paths.folder).close()
    else:
        history.update(run.id, lambda record: None)
    assert history.list()[0].state is RunState.RUNNING
    assert list(history.paths.unsettled.iterdir()) == []


def test_opening_waits_for_nobody_and_stumbles_over_nothing(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asleep(seconds: float) -> None:
        pytest.fail("it waited")

    monkeypatch.setattr(time, "sleep", asleep)
    busy, lost, damaged = (history.create(make())[0].id for _ in range(3))
    names = [busy, lost, damaged, "not a run id", new_run_id("never")]
    for name in names:
        (history.paths.unsettled / name).touch()
    history.paths.run(lost).record.unlink()
    history.paths.run(damaged).record.write_text("{")
    with locked(history.paths.run(busy).lock), History.open(history.paths.folder) as other:
        assert len(other.list()) == 3
    assert {path.name for path in history.paths.unsettled.iterdir()} == set(names)
    History.open(history.paths.folder).close()
    assert busy not in {path.name for path in history.paths.unsettled.iterdir()}


def test_a_record_whose_row_is_lost_gets_it_back_when_it_is_changed(history: History) -> None:
    run, _ = history.create(make(tags={"a": "b"}))
    sql(history, "DELETE FROM runs")
    sql(history, "DELETE FROM tags")
    history.set_tags(run.id, {"c": "d"})
    assert [row.id for row in history.list(tags={"a": "b", "c": "d"})] == [run.id]


def test_a_lost_database_is_not_replaced_by_an_empty_one(history: History) -> None:
    history.create(make(key="k"))
    history.close()
    history.paths.database.unlink()
    with pytest.raises(HistoryError, match="is gone"):
        History.open(history.paths.folder, create=True)
    assert not history.paths.database.exists()


def test_a_failed_open_leaves_no_connection(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Database] = []
    close = Database.close

    def noting(self: Database) -> None:
        closed.append(self)
        close(self)

    def broken(self: History) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Database, "close", noting)
    monkeypatch.setattr(History, "_settle", broken)
    with pytest.raises(KeyboardInterrupt):
        History.open(history.paths.folder)
    assert len(closed) == 1
