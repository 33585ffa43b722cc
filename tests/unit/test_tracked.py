"""What a program tells of its run, seen at home: real runs on this machine, and files not to be trusted."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Experiment, Run, ScriptRunConfig, Workspace
from hpcrun.engine import tracked
from hpcrun.engine.cancel import cancel
from hpcrun.engine.files import file_names
from hpcrun.engine.wait import wait
from hpcrun.errors import UsageError
from hpcrun.history.record import CHILD, RunRecord, new_run_id
from hpcrun.metrics.reading import read_points
from hpcrun.states import RunState
from hpcrun.tracking_place import child_id
from tests.engine_help import PATIENCE, until, workspace

PROGRAM = """
import sys
from hpcrun import Run

run = Run.get_context()
run.log("loss", 0.5, step=1)
run.set_tags({"seed": 3, "state": "begun"})
run.tag("state", "going")
run.display_name = "a fine run"
run.description = "two lines\\nof it"
run.add_properties({"data": "v1"})
run.upload_file("outputs/deep/model.txt", "train.py")
with open("picture.svg", "w") as picture:
    picture.write("<svg/>")
run.log_image("curve", path="picture.svg")
with run.child_run("fold 0") as child:
    child.log("acc", 0.9)
    child.tag("fold", 0)
    child.upload_file("model.txt", "train.py")
    grandchild = child.child_run("inner")
try:
    with run.child_run("fold 1") as child:
        child.log("acc", 0.1)
        raise RuntimeError("diverged")
except RuntimeError:
    pass
run.child_run("left open")
run.complete()
print(run.id, child.id)
"""


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with workspace(tmp_path / "ws") as made:
        yield made


def submit(ws: Workspace, text: str = PROGRAM, command: str | None = None) -> Run:
    folder = ws.folder / "source"
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text(text)
    # Without site-packages: this environment has no hpcrun.
    return Experiment(ws, "exp").submit(
        ScriptRunConfig(folder, command=command or f"{sys.executable} -S train.py")
    )


def at_its_end(ws: Workspace, run: Run) -> RunRecord:
    record = wait(ws.history, ws.targets, run.id, timeout=PATIENCE)
    assert record.state is RunState.COMPLETED, (run.folder / "user_logs/std_log.txt").read_text()
    return record


def children(run: Run) -> dict[str, Run]:
    return {child.display_name: child for child in run.get_children()}


def test_what_the_program_told_is_in_the_history(ws: Workspace) -> None:
    run = submit(ws)
    record = at_its_end(ws, run)
    assert record.tags == {"seed": "3", "state": "going"}
    assert (record.display_name, record.description) == ("a fine run", "two lines\nof it")
    assert record.properties["data"] == "v1"
    names = file_names(ws.history.paths.run(run.id), ("outputs",))
    assert {"outputs/deep/model.txt", "outputs/images/curve.svg"} <= set(names)
    image = next(p for p in read_points(run.folder / "metrics") if p.name == "curve")
    assert image.value == {"path": "outputs/images/curve.svg"}
    assert (run.folder / "lib/hpcrun/tracking_run.py").exists()


def test_children_are_runs(ws: Workspace) -> None:
    run = submit(ws)
    at_its_end(ws, run)
    found = children(run)
    assert set(found) == {"fold 0", "fold 1", "left open"}
    states = {name: (child.status, child.record.message) for name, child in found.items()}
    assert states == {
        "fold 0": ("Completed", ""),
        "fold 1": ("Failed", "RuntimeError: diverged"),
        "left open": ("Completed", ""),
    }
    first = found["fold 0"]
    assert (first.type, first.tags, first.parent and first.parent.id) == (CHILD, {"fold": "0"}, run.id)
    assert [(p.name, p.value) for p in read_points(first.folder / "metrics")] == [("acc", 0.9)]
    assert first.download_file("outputs/model.txt", ws.folder / "copy").read_text() == PROGRAM
    assert [(c.display_name, c.status) for c in first.get_children()] == [("inner", "Completed")]
    assert first.record.started and first.record.ended
    last = (run.folder / "user_logs/std_log.txt").read_text().split()
    assert last[-2:] == [run.id, found["fold 1"].id]


def test_it_can_be_seen_while_the_run_goes_on(ws: Workspace) -> None:
    text = "from hpcrun import Run\nimport pathlib, time\nrun = Run.get_context()\n"
    text += "child = run.child_run('half')\nrun.tag('stage', 'one')\n"
    text += "while not pathlib.Path('go').exists(): time.sleep(0.02)\nchild.complete()\n"
    run = submit(ws, text)

    def stage() -> str | None:
        run.get_status()
        return run.tags.get("stage")

    assert until(stage) == "one"
    child = children(run)["half"]
    assert child.status == "Running"
    assert child.get_status() == "Running"
    with pytest.raises(UsageError, match=r"is a part of .*, and cannot be canceled by itself"):
        cancel(ws.history, ws.targets, child.id)
    run.tag("stage", "mine")
    run.get_status()
    assert run.tags["stage"] == "mine", "what was changed at home since stays"
    (run.folder / "code/go").touch()
    assert wait(ws.history, ws.targets, child.id, timeout=PATIENCE).state is RunState.COMPLETED
    at_its_end(ws, run)
    assert run.tags["stage"] == "mine"


def test_taken_in_twice_nothing_changes(ws: Workspace) -> None:
    run = submit(ws)
    record = at_its_end(ws, run)
    before = {each.id: each.record.to_json() for each in [run, *run.get_children(recursive=True)]}
    tracked.take_in(ws.history, record, RunState.COMPLETED)
    # And from the beginning, as where a process was killed before it wrote down how far it was.
    ws.history.update(run.id, lambda r: r.submission.pop("told"))
    tracked.take_in(ws.history, record, RunState.COMPLETED)
    assert {each.id: each.record.to_json() for each in [run, *run.get_children(recursive=True)]} == before


def test_open_children_of_a_failed_run_failed(ws: Workspace) -> None:
    text = "from hpcrun import Run\nRun.get_context().child_run('a')\nraise SystemExit(3)\n"
    run = submit(ws, text)
    wait(ws.history, ws.targets, run.id, timeout=PATIENCE)
    child = children(run)["a"]
    assert (child.status, child.record.message) == ("Failed", "it ended with its run, and had not said how")


# What comes from a program that writes what it likes.


def made(ws: Workspace, lines: list[Any]) -> RunRecord:
    run_id = new_run_id("exp")
    record = RunRecord(
        id=run_id, experiment="exp", target="local", scheduler="local", state=RunState.RUNNING, job_id="1"
    )
    ws.history.create(record)
    told(ws, run_id, lines)
    return ws.history.get(run_id)


def told(ws: Workspace, run_id: str, lines: list[Any], name: str = "told_000.jsonl") -> Path:
    folder = ws.history.paths.run(run_id).metrics
    folder.mkdir(exist_ok=True)
    with (folder / name).open("ab") as file:
        for line in lines:
            file.write((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")
    return folder / name


NONSENSE: list[Any] = [
    b"",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"e": "tags", "v": {"cut": ',
    [],
    {"e": "tags", "v": {"": "x", " ": "x", "a\x1b[2Jb": "x", "k" * 300: "x"}, "t": 1.0},
    {"e": "tags", "v": ["x"], "t": 1.0},
    {"e": ["tags"], "v": {}, "t": 1.0},
    {"e": "tags", "v": {"no": "time"}, "t": "never"},
    {"e": "tags", "v": {"no": "time"}},
    {"e": "eval", "v": "1", "t": 1.0},
    {"e": "tags", "v": {"long": "x" * 70_000}, "t": 1.0},
    {"e": "child", "c": "../../../etc", "v": {"name": "x"}, "t": 1.0},
    {"e": "child", "c": "exp_20260101-000000_aaaaaaaa", "v": {"name": "another's"}, "t": 1.0},
    {"e": "child", "c": 5, "v": {}, "t": 1.0},
    {"e": "end", "c": None, "v": {"state": "Completed"}, "t": 1.0},
]


def test_nonsense_is_passed_over(ws: Workspace) -> None:
    record = made(ws, [*NONSENSE, {"e": "tags", "v": {"good": "yes"}, "t": 1.0}])
    tracked.take_in(ws.history, record)
    now = ws.history.get(record.id)
    assert (now.tags, now.state, ws.history.descendants(record.id)) == ({"good": "yes"}, RunState.RUNNING, [])


def test_what_terminals_obey_is_taken_out(ws: Workspace) -> None:
    lines = [
        {"e": "tags", "v": {"a": "\x1b[31mred\nnext", "b": 5, "c": "x" * 9000}, "t": 1.0},
        {"e": "name", "v": "two\nlines\x07", "t": 1.0},
        {"e": "description", "v": {"no": "text"}, "t": 1.0},
    ]
    record = made(ws, lines)
    tracked.take_in(ws.history, record)
    now = ws.history.get(record.id)
    assert now.tags == {"a": " [31mred\nnext", "b": "", "c": "x" * 5000}
    assert (now.display_name, now.description) == ("two lines", None)


def test_a_child_cannot_take_the_place_of_another_run(ws: Workspace) -> None:
    record = made(ws, [])
    other = record.id[:-8] + "aaaaaaaa"
    ws.history.create(RunRecord(id=other, experiment="exp", target="local", scheduler="local"))
    told(
        ws,
        record.id,
        [
            {"e": "child", "c": other, "v": {"name": "mine"}, "t": 1.0},
            {"e": "tags", "c": other, "v": {"a": "b"}, "t": 1.0},
            {"e": "child", "c": record.id, "v": {"name": "myself"}, "t": 1.0},
            {"e": "end", "c": other, "v": {"state": "Failed"}, "t": 1.0},
        ],
    )
    tracked.take_in(ws.history, record)
    assert ws.history.get(other).tags == {}
    assert ws.history.get(other).state is RunState.NOT_STARTED
    assert ws.history.get(record.id).display_name is None


def test_times_and_states_that_cannot_be(ws: Workspace) -> None:
    record = made(ws, [])
    ids = [child_id(record.id, str(n)) for n in range(3)]
    lines: list[Any] = [
        {"e": "child", "c": each, "v": {"name": None, "parent": "nobody"}, "t": 1e300} for each in ids
    ]
    lines += [
        {"e": "end", "c": ids[0], "v": {"state": "Exploded"}, "t": 1.0},
        {"e": "end", "c": ids[1], "v": {"state": "Completed"}, "t": -1e300},
        b'{"e": "end", "c": "%s", "v": {"state": "Failed"}, "t": NaN}' % ids[2].encode(),
    ]
    told(ws, record.id, lines)
    tracked.take_in(ws.history, record)
    assert [ws.history.get(each).state.value for each in ids] == ["Running", "Completed", "Failed"]
    assert {ws.history.get(each).parent for each in ids} == {record.id}


def test_a_torn_line_is_left_for_the_next_look(ws: Workspace) -> None:
    record = made(ws, [])
    path = told(ws, record.id, [{"e": "tags", "v": {"a": "1"}, "t": 1.0}])
    with path.open("ab") as file:
        file.write(b'{"e": "tags", "v": {"b"')
    tracked.take_in(ws.history, record)
    assert ws.history.get(record.id).tags == {"a": "1"}
    with path.open("ab") as file:
        file.write(b': "2"}, "t": 1.0}\n')
    tracked.take_in(ws.history, record)
    assert ws.history.get(record.id).tags == {"a": "1", "b": "2"}


def test_a_link_or_a_pipe_in_its_place_is_not_read(ws: Workspace, tmp_path: Path) -> None:
    import os

    record = made(ws, [])
    folder = ws.history.paths.run(record.id).metrics
    outside = tmp_path / "outside"
    outside.write_text('{"e": "tags", "v": {"from": "outside"}, "t": 1.0}\n')
    (folder / "told_000.jsonl").unlink()
    (folder / "told_000.jsonl").symlink_to(outside)
    os.mkfifo(folder / "told_001.jsonl")
    tracked.take_in(ws.history, record, RunState.COMPLETED)
    assert ws.history.get(record.id).tags == {}


def test_there_is_an_end_to_children(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracked, "MOST_CHILDREN", 3)
    record = made(ws, [])
    ids = [child_id(record.id, str(n)) for n in range(5)]
    told(ws, record.id, [{"e": "child", "c": each, "v": {}, "t": 1.0} for each in ids])
    tracked.take_in(ws.history, record)
    assert len(ws.history.descendants(record.id)) == 3
