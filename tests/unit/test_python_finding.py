"""The Python API of runs that were found: filters, tags, properties, names, files, once more, differences."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Experiment, Run, ScriptRunConfig, Workspace
from hpcrun.errors import NotFoundError, UsageError
from hpcrun.states import RunState
from tests.engine_help import PATIENCE, ScriptedScheduler, source, use, workspace

TRAIN = """
import os
from pathlib import Path
print("said")
Path("outputs/deep").mkdir()
Path("outputs/deep/model.bin").write_text("m")
Path("outputs/deep2").write_text("2")
Path("logs/own.txt").write_bytes(b"own \\xff")
"""


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    with workspace(tmp_path / "ws") as made:
        monkeypatch.chdir(made.folder)
        yield made


@pytest.fixture
def src(tmp_path: Path) -> Path:
    return source(tmp_path / "src", train_py=TRAIN)


@pytest.fixture
def queued(ws: Workspace, src: Path) -> Run:
    """A run that only waits."""
    use(ws, ScriptedScheduler())
    return submit(ws, src)


@pytest.fixture
def done(ws: Workspace, src: Path) -> Run:
    run = submit(ws, src)
    run.wait_for_completion(timeout=PATIENCE)
    return run


def submit(ws: Workspace, src: Path, **tags: Any) -> Run:
    return Experiment(ws, "cifar").submit(ScriptRunConfig(src, "train.py"), tags=tags)


def test_get_runs_finds_by_all_that_is_asked(ws: Workspace, src: Path) -> None:
    use(ws, ScriptedScheduler())
    one, two, three = (
        submit(ws, src, lr=rate, **more) for rate, more in ((1, {}), (2, {"x": 'a "b"'}), (1, {}))
    )
    two.add_properties({"who": "me", "n": 1})
    three.add_properties({"who": "you"})
    ws.history.update(one.id, lambda record: setattr(record, "state", RunState.CANCELED))
    experiment = Experiment(ws, "cifar")

    def found(**asked: Any) -> list[str]:
        by_list = [run.id for run in Run.list(experiment, **asked)]
        assert by_list == [run.id for run in experiment.get_runs(**asked)]
        return by_list

    assert found() == [three.id, two.id, one.id]
    assert found(tags="x") == [two.id]
    assert found(tags={"x": 'a "b"'}) == [two.id]
    assert found(tags={"lr": "1"}) == [three.id, one.id]
    assert found(tags={"lr": "1", "x": None}) == []
    assert found(properties="who") == [three.id, two.id]
    assert found(properties={"who": "me", "n": "1"}) == [two.id]
    assert found(properties={"who": None}, tags={"lr": "1"}) == [three.id]
    assert found(status="Canceled") == [one.id]
    assert found(status="Canceled", tags={"lr": "2"}) == []
    assert found(type="script", include_children=True) == [three.id, two.id, one.id]
    assert found(type="sweep") == []
    with pytest.raises(UsageError, match="no run is ever 'Done'"):
        found(status="Done")


def test_a_key_of_another_experiment_gives_the_run_as_it_is(ws: Workspace, src: Path) -> None:
    use(ws, ScriptedScheduler())
    config = ScriptRunConfig(src, "train.py")
    first = Experiment(ws, "first").submit(config, key="k")
    again = Experiment(ws, "second").submit(config, key="k")
    assert (again.id, again.experiment.name) == (first.id, "first")


def test_tags(queued: Run) -> None:
    queued.tag("a", "1")
    queued.tag("bare")
    queued.set_tags({"b": 2, "c": True, "d": 0.5})
    assert queued.tags == {"a": "1", "bare": "", "b": "2", "c": "True", "d": "0.5"}
    queued.remove_tags(["b", "c", "never there"])
    queued.remove_tags("bare")
    assert queued.get_tags() == {"a": "1", "d": "0.5"}


@pytest.mark.parametrize("wrong", ["text", {"": "x"}, {1: "x"}, {"a\n": "x"}, {"ok": []}, {"ok": "\0"}])
def test_what_no_tag_can_be(wrong: Any, queued: Run, ws: Workspace, src: Path) -> None:
    for way in (queued.set_tags, queued.add_properties):
        with pytest.raises(UsageError):
            way({**wrong, "fine": "1"} if isinstance(wrong, dict) else wrong)
    with pytest.raises(UsageError):
        Experiment(ws, "cifar").submit(ScriptRunConfig(src, "train.py"), tags=wrong)
    assert queued.tags == {} and "fine" not in queued.properties
    assert len(ws.runs()) == 1


def test_properties_are_added_and_never_change(queued: Run) -> None:
    queued.add_properties({"p": "1", "q": 2})
    queued.add_properties({"p": "1", "r": "3"})
    assert queued.properties == {"p": "1", "q": "2", "r": "3"}
    with pytest.raises(UsageError, match="has the property 'q' already, as '2'"):
        queued.add_properties({"new": "x", "q": "other"})
    assert queued.get_properties() == {"p": "1", "q": "2", "r": "3"}, "all or none"


def test_display_name(queued: Run, ws: Workspace) -> None:
    queued.display_name = "first try"
    assert queued.display_name == "first try"
    assert Run.get(ws, "first try").id == queued.id
    for wrong in ("a\nb", "x" * 257, 5):
        with pytest.raises(UsageError, match="not a name to display"):
            queued.display_name = wrong  # type: ignore[assignment]
    queued.display_name = ""
    assert queued.display_name == queued.id


def test_description_and_type(queued: Run, ws: Workspace, src: Path) -> None:
    assert (queued.description, queued.type) == (None, "script")
    queued.description = "what it is for,\non two lines"
    assert Run.get(ws, queued.id).description == "what it is for,\non two lines"
    details = queued.get_details()
    assert (details["description"], details["displayName"]) == (queued.description, None)
    for wrong in ("x" * 5001, "a\0b", 5):
        with pytest.raises(UsageError, match="not a description"):
            queued.description = wrong  # type: ignore[assignment]
    queued.description = None
    assert queued.description is None
    config = ScriptRunConfig(src, "train.py", description="from the config")
    assert Experiment(ws, "cifar").submit(config).description == "from the config"
    assert queued.rerun().description is None


def test_experiments_are_listed_by_name(queued: Run, ws: Workspace) -> None:
    assert [each.name for each in Experiment.list(ws, "cifar")] == ["cifar"]
    assert Experiment.list(ws, experiment_name="mnist") == []
    queued.archive()
    assert list(Experiment(ws, "cifar").get_runs()) == []
    queued.reactivate()
    assert [run.id for run in Experiment(ws, "cifar").get_runs()] == [queued.id]


def test_snapshot_id(queued: Run) -> None:
    snapshot = queued.record.snapshot
    assert snapshot is not None and queued.get_snapshot_id() == snapshot["id"]


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_download_files(done: Run, tmp_path: Path, ws: Workspace) -> None:
    copies = done.download_files("outputs", tmp_path / "a")
    assert below(tmp_path / "a") == ["outputs/deep/model.bin", "outputs/deep2"]
    assert sorted(copies) == [tmp_path / "a" / name for name in below(tmp_path / "a")]
    done.download_files("outputs/deep/", tmp_path / "b", append_prefix=False)
    assert below(tmp_path / "b") == ["model.bin"], "a folder, not all that begins alike"
    done.download_files("outputs/deep2", tmp_path / "c", append_prefix=False)
    assert below(tmp_path / "c") == ["deep2"]
    assert len(done.download_files(output_directory=tmp_path / "d")) == len(done.get_file_names())
    assert below(tmp_path / "d") == sorted(done.get_file_names())
    done.download_files("logs")
    assert (ws.folder / "logs" / "own.txt").read_bytes() == b"own \xff"


@pytest.mark.parametrize("prefix", ["output", "outputs/none", "../..", "/etc"])
def test_a_prefix_of_nothing(prefix: str, done: Run, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="has no files in") as caught:
        done.download_files(prefix, tmp_path / "copy")
    assert "outputs/deep/model.bin" in str(caught.value)
    assert not (tmp_path / "copy").exists()


def test_logs(done: Run, tmp_path: Path, ws: Workspace) -> None:
    expected = ["logs/own.txt", "system_logs/attempts.jsonl", "system_logs/job.txt", "user_logs/std_log.txt"]
    copies = done.get_all_logs(tmp_path / "logs")
    assert below(tmp_path / "logs") == expected and len(copies) == 4
    done.get_all_logs()
    assert below(ws.folder / "assets" / done.id) == expected
    details = done.get_details_with_logs()
    assert details["logFiles"]["user_logs/std_log.txt"] == "said\n"
    assert details["logFiles"]["logs/own.txt"] == "own \ufffd"
    assert {**details, "logFiles": {}} == {**done.get_details(), "logFiles": {}}


def test_rerun_and_diff(done: Run, src: Path, ws: Workspace) -> None:
    (src / "train.py").write_text("print('other')")
    fresh = done.rerun(fresh=True, tags={"n": "2"})
    shutil.rmtree(src)
    again = done.rerun(target="local", key="k")
    assert done.rerun(key="k").id == again.id
    assert again.experiment.name == "cifar" and again.properties["rerun_of"] == done.id
    assert again.get_snapshot_id() == done.get_snapshot_id() != fresh.get_snapshot_id()
    again.wait_for_completion(timeout=PATIENCE)
    assert "outputs/deep/model.bin" in again.get_file_names()
    assert done.diff(again).same and done.diff(again).code == ""
    found = done.diff(fresh)
    assert not found.same and "+print('other')" in found.code
    assert (found.configuration, found.environment, found.git) == ([], [], [])
    assert fresh.tags == {"n": "2"}
