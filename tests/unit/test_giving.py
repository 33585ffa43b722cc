"""What a run is given of an earlier one on another machine: sent beside it, whole, and once for all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcrun import ScriptRunConfig, Workspace
from hpcrun.engine.arrays import carry_out_all, lead
from hpcrun.engine.earlier import earlier_runs
from hpcrun.engine.giving import give
from hpcrun.engine.prepare import prepare
from hpcrun.engine.resume import resume_path
from hpcrun.errors import CommandError, NotFoundError, UnreachableError
from hpcrun.history.paths import RunPaths
from hpcrun.history.record import RunRecord, new_run_id
from hpcrun.places.base import Given
from hpcrun.places.near import NearPlace
from hpcrun.shells.base import Result
from hpcrun.states import RunState
from hpcrun.targets import Target
from tests.engine_help import ScriptedScheduler
from tests.far_help import Far, present

FILES = {"model.pt": b"\0model" * 1000, "it's/deep \n x": b"x"}


def earlier(far: Far, **more: Any) -> RunRecord:
    """A run of this machine that has ended, with outputs."""
    run_id = new_run_id("old")
    folder = far.workspace.history.paths.run(run_id).folder
    record = RunRecord(id=run_id, experiment="old", target="local", scheduler="local", run_dir=str(folder))
    record, _ = far.workspace.history.create(replace(record, state=RunState.COMPLETED, **more))
    outputs = RunPaths(folder).outputs
    for name, content in FILES.items():
        (outputs / name).parent.mkdir(parents=True, exist_ok=True)
        (outputs / name).write_bytes(content)
    return record


def opened(far: Far) -> Workspace:
    """The workspace, that knows the far one as ``far``."""
    target = far.workspace.targets.get("local")
    far.workspace.targets._open["far"] = Target(
        "far", None, far.site, target.scheduler, far.shell, far.place, far.shell
    )
    return far.workspace


def given(far: Far, old: RunRecord, name: str = "outputs") -> tuple[RunRecord, Path]:
    """A run over there that is to be given something; it, and where it looks for that."""
    record = far.record()
    what = Given(old.id, name, "resume_from")
    record.config["given"] = [{"run": what.run, "name": what.name, "slot": what.slot}]
    return record, Path(what.below(record.run_dir))


def contents(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def bring(far: Far, record: RunRecord) -> None:
    give(opened(far).history, far.workspace.targets, record)


@pytest.mark.parametrize("kind", present())
def test_it_is_there_before_the_run(kind: str, tmp_path: Path) -> None:
    """By rsync, or by tar where there is none; private, and beside the run's own folder by a link."""
    far = Far(tmp_path, kind)
    record, there = given(far, earlier(far))
    bring(far, record)
    assert contents(there) == FILES
    assert {path.stat().st_mode & 0o077 for path in there.resolve().rglob("*")} == {0}
    assert not list((far.root / "given").glob("*.part.*"))
    folder = far.fill(record)
    assert (folder / "job.sh").exists()
    assert contents(there) == FILES


def test_a_file_alone(tmp_path: Path) -> None:
    far = Far(tmp_path)
    for hidden in (False, True):
        record, there = given(far, earlier(far), "outputs/model.pt")
        bring(far, record)
        assert there.read_bytes() == FILES["model.pt"]
        assert contents(there.parent) == {"model.pt": FILES["model.pt"]}
        if not hidden:
            far.shell.hide("rsync")


def test_several_runs_share_it_and_the_last_takes_it_along(tmp_path: Path) -> None:
    """What was sent is not sent again. What has changed meanwhile is another thing."""
    far = Far(tmp_path)
    old = earlier(far)
    (first, one), (second, two) = given(far, old), given(far, old)
    bring(far, first)
    before = len(far.shell.asked)
    bring(far, second)
    assert len(far.shell.asked) == before + 1, "one question, and nothing was sent"
    assert one.samefile(two)
    RunPaths(Path(old.run_dir)).outputs.joinpath("model.pt").write_bytes(b"another")
    third, three = given(far, old)
    bring(far, third)
    assert (three / "model.pt").read_bytes() == b"another"
    assert contents(one) == FILES
    for record in (first, third):
        far.place.remove(record)
    assert contents(two) == FILES
    assert len(list((far.root / "given").iterdir())) == 1
    far.place.remove(second)
    assert list((far.root / "given").iterdir()) == []


def test_the_tasks_of_an_array_share_it_too(tmp_path: Path) -> None:
    """Sent before the one sbatch, once; each has it in its own folder."""
    far = Far(tmp_path)
    old = earlier(far)
    pairs = [given(far, old) for _ in range(3)]
    records = [record for record, _ in pairs]
    lead(records, None)
    workspace, scheduler = opened(far), ScriptedScheduler(["7"])
    targets = workspace.targets
    targets._open["far"] = replace(targets.get("far"), scheduler=scheduler)
    for record in records:
        record.submission["request"] = {"hidden": []}
        workspace.history.create(record)
    carry_out_all(workspace.history, targets, records, -1)
    assert len(scheduler.submitted) == 1
    assert [contents(there) for _, there in pairs] == [FILES] * 3
    assert len(list((far.root / "given").iterdir())) == 1


def test_what_was_cut_off_is_gone_on_with_and_never_used(tmp_path: Path) -> None:
    """Wherever it is cut off: the run has all or nothing."""
    far = Far(tmp_path)
    old = earlier(far)
    record, there = given(far, old)
    for cut in (1, 2, 3):
        far.shell.asked.clear()

        def gone(number: int, cut: int = cut) -> Result | None:
            return Result(("sh",), None, "", "", 0.1, "the connection broke") if number == cut else None

        far.shell.before = gone
        if cut > 2:
            bring(far, record)
            break
        with pytest.raises(UnreachableError) as caught:
            bring(far, record)
        assert "submitted by the next hpcrun show" in str(caught.value.hint)
        assert not there.exists()
    assert contents(there) == FILES


def test_half_of_a_file_is_made_whole(tmp_path: Path) -> None:
    """Left by a transfer that was killed: as long as the whole, even."""
    far = Far(tmp_path)
    record, there = given(far, earlier(far))
    far.shell.asked.clear()
    far.shell.before = lambda number: (
        Result(("sh",), None, "", "", 0.1, "the connection broke") if number == 2 else None
    )
    with pytest.raises(UnreachableError):
        bring(far, record)
    (part,) = (far.root / "given").glob("*.part.*")
    (part / "files/outputs/model.pt").write_bytes(b"y" * len(FILES["model.pt"]))
    (part / "files/outputs/.model.pt.Ab12cd").write_bytes(b"left")
    far.shell.before = lambda number: None
    bring(far, record)
    assert contents(there) == FILES


@pytest.mark.parametrize("hidden", [False, True], ids=["rsync", "tar"])
def test_links(hidden: bool, tmp_path: Path) -> None:
    """Of one's own what they lead to is sent; of those that came from another machine none leads out."""
    far = Far(tmp_path)
    if hidden:
        far.shell.hide("rsync")
    old = earlier(far)
    (tmp_path / "best.pt").write_text("best")
    outputs = RunPaths(Path(old.run_dir)).outputs
    (outputs / "out").symlink_to(tmp_path / "best.pt")
    (outputs / "in").symlink_to("model.pt")
    record, there = given(far, old)
    bring(far, record)
    assert (there / "out").read_text() == "best" and not (there / "out").is_symlink()
    assert (there / "in").readlink() == Path("model.pt")
    what = Given(old.id, "outputs", "resume_from")
    record, there = given(far, old)
    (outputs / "model.pt").write_text("new")  # another thing, or it would be there
    far.place.give(record, what, outputs, trusted=False, on_send=None)
    assert sorted(contents(there)) == ["in", "it's/deep \n x", "model.pt"]


def test_it_is_told_how_much(tmp_path: Path) -> None:
    far = Far(tmp_path)
    record, _ = given(far, earlier(far))
    told: list[Any] = []

    def on_send(files: int, size: int) -> Any:
        told.append((files, size))
        return told.append

    opened(far).targets.on_send = on_send
    bring(far, record)
    size = sum(map(len, FILES.values()))
    assert told[0] == (2, size) and sum(told[1:]) == size


def test_what_is_not_there(tmp_path: Path) -> None:
    far = Far(tmp_path)
    old = earlier(far)
    with pytest.raises(CommandError, match="has no outputs/nothing"):
        bring(far, given(far, old, "outputs/nothing")[0])
    record, _ = given(far, replace(old, id=new_run_id("gone")))
    with pytest.raises(NotFoundError, match="is gone"):
        bring(far, record)


# Where it will be, before anything is sent.


def plan_of(far: Far, target: str, **more: Any) -> Any:
    config = ScriptRunConfig(str(far.source), command="true", compute_target=target, **more)
    history = opened(far).history
    (far.workspace.folder / "site_configs").mkdir(exist_ok=True)
    (far.workspace.folder / "site_configs/far.yaml").write_text("scheduler: {type: slurm}\n")
    return prepare(config, history.paths, far.workspace.targets, earlier=earlier_runs(history, config))


def test_here_of_a_run_elsewhere(tmp_path: Path) -> None:
    """What has come home, or will have."""
    far = Far(tmp_path)
    history = opened(far).history
    record, _ = history.create(replace(far.record(), state=RunState.RUNNING, job_id="1"))
    plan = plan_of(far, "local", resume_from=record.id, inputs={"x": f"{record.id}/outputs/x"})
    home = history.paths.run(record.id)
    assert plan.resume_path == str(home.outputs)
    assert plan.inputs == {"x": str(home.outputs / "x")}
    assert [each.slot for each in plan.given] == ["resume_from", "inputs-x"]
    assert {(each.run, each.when) for each in plan.before} == {(record.id, "ok")}
    plan = plan_of(far, "local", resume_from=record.id)
    assert {(each.run, each.when) for each in plan.before} == {(record.id, "any")}
    history.update(record.id, lambda r: setattr(r, "outcome", "Failed"))
    assert not plan_of(far, "local", resume_from=record.id).before, "it has ended: nothing to wait for"


def test_on_its_own_machine_nothing_is_given(tmp_path: Path) -> None:
    far = Far(tmp_path)
    old = earlier(far)
    found = resume_path(far.workspace.history, old.id)
    assert found is not None
    assert found.given(NearPlace("local", None)) is None
    assert found.given(far.place) == Given(old.id, "outputs", "resume_from")
