"""Exactly once: killed at any step, raced for, with the answer lost, or refused (faults 1, 2, 3, 7, 36)."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpcrun import Environment, Experiment, Resources, Run, ScriptRunConfig, Workspace
from hpcrun.engine import reconcile
from hpcrun.engine.refresh import refresh
from hpcrun.engine.sending import held
from hpcrun.errors import (
    ConfigError,
    HistoryError,
    NotFoundError,
    SnapshotError,
    SubmissionAmbiguous,
    SubmissionRejected,
)
from hpcrun.history.record import RunRecord
from hpcrun.schedulers.base import Answer
from hpcrun.snapshot import SnapshotStore
from hpcrun.states import RunState
from tests.engine_help import (
    PATIENCE,
    SILENCE,
    ScriptedScheduler,
    knows,
    source,
    until,
    use,
    workspace,
)


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with workspace(tmp_path / "ws") as made:
        yield made


@pytest.fixture
def config(tmp_path: Path) -> ScriptRunConfig:
    """A run that leaves one line in tmp_path/ran each time its payload runs."""
    folder = source(tmp_path / "src", train_sh=f"echo x >>'{tmp_path}/ran'\n")
    return ScriptRunConfig(folder, "train.sh")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Absence is certain after a moment, and a scheduler that is silent is given up at once."""
    monkeypatch.setattr(reconcile, "LOOK_AGAIN", 0.02)
    monkeypatch.setattr(reconcile, "SETTLE_WITHIN", 0.05)
    hasty = SimpleNamespace(sleep=lambda seconds: time.sleep(0.005), monotonic=time.monotonic)
    monkeypatch.setattr("hpcrun.engine.reconcile.time", hasty)


def submit(ws: Workspace, config: ScriptRunConfig, key: str | None = None) -> Run:
    return Experiment(ws, "test").submit(config, key=key)


def only(ws: Workspace) -> RunRecord:
    (row,) = ws.history.list()
    return ws.history.get(row.id)


def again(ws: Workspace) -> RunRecord:
    refresh(ws.history, ws.targets)
    return only(ws)


LOST = SubmissionAmbiguous("the answer was lost")

# What a process is killed in the middle of, and whether before or after: in the order in which they come.
STEPS = {
    "before anything": "hpcrun.snapshot:SnapshotStore.take before",
    "before the row": "hpcrun.history.store:History.create before",
    "the row without its record": "hpcrun.history.store:History._make_run before",
    "after the row": "hpcrun.history.store:History.create after",
    "with half a folder": "hpcrun.snapshot:SnapshotStore.check_out after",
    "before the links": "hpcrun.places.near:_link_home before",
    "with the folder": "hpcrun.places.near:NearPlace.fill after",
    "about to submit": "hpcrun.schedulers.local:LocalScheduler.submit before",
    "while submitting": "hpcrun.schedulers.local:LocalScheduler._wait_for_start before",
    "submitted, not written down": "hpcrun.schedulers.local:LocalScheduler.submit after",
    "while it is written down": "hpcrun.engine.sending:adopt after",
}

CHILD = """
import importlib, os, sys
from hpcrun import Experiment, ScriptRunConfig, Workspace

workspace, folder, key, step = sys.argv[1:]
if step:
    place, when = step.split()
    owner = importlib.import_module(place.partition(":")[0])
    *inner, name = place.partition(":")[2].split(".")
    for part in inner:
        owner = getattr(owner, part)
    real = getattr(owner, name)
    def killed(*args, **more):
        if when == "after":
            real(*args, **more)
        os.kill(os.getpid(), 9)
    setattr(owner, name, killed)
with Workspace(workspace) as ws:
    print(Experiment(ws, "test").submit(ScriptRunConfig(folder, "train.sh"), key=key or None).id)
"""


def child(ws: Workspace, config: ScriptRunConfig, key: str, step: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", CHILD, str(ws.folder), config.source_directory, key, step]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step(step: str, ws: Workspace, config: ScriptRunConfig, tmp_path: Path) -> None:
    process = child(ws, config, "key", STEPS[step])
    process.communicate(timeout=PATIENCE)
    assert process.returncode == -9, "the step is one that is taken"
    rows = ws.history.list()
    assert len(rows) == (0 if step in ("before anything", "before the row") else 1)
    if not rows:
        submit(ws, config, "key")
    run_id = only(ws).id
    until(lambda: again(ws).state.final, f"the end of a run that was killed {step}")
    assert submit(ws, config, "key").id == run_id, "the key is taken"
    record = only(ws)
    assert (record.state, record.exit_code) == (RunState.COMPLETED, 0), record.message
    assert (tmp_path / "ran").read_text() == "x\n"
    assert len(record.attempts) == 1
    assert record.snapshot is not None
    assert (Path(record.run_dir) / "code" / "train.sh").read_text() == (
        tmp_path / "src" / "train.sh"
    ).read_text()


@pytest.mark.slow
def test_a_key_from_ten_processes_at_once(ws: Workspace, config: ScriptRunConfig, tmp_path: Path) -> None:
    processes = [child(ws, config, "key", "") for _ in range(10)]
    said = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0] * 10
    assert said == {only(ws).id}
    assert [path.name for path in ws.history.paths.runs.iterdir()] == [only(ws).id], "the others left nothing"
    until(lambda: again(ws).state.final)
    assert (tmp_path / "ran").read_text() == "x\n"


def test_without_a_key_each_submission_is_a_run(ws: Workspace, config: ScriptRunConfig) -> None:
    use(ws, ScriptedScheduler(["1", "2"]))
    assert submit(ws, config).id != submit(ws, config).id
    assert submit(ws, config, "a").id != submit(ws, config, "b").id


def test_an_answer_that_was_lost_and_the_job_is_there(ws: Workspace, config: ScriptRunConfig) -> None:
    scheduler = use(ws, ScriptedScheduler([LOST], [knows("77")]))
    record = submit(ws, config).record
    assert (record.job_id, record.state) == ("77", RunState.QUEUED)
    assert len(scheduler.submitted) == 1
    (ref,) = scheduler.asked[0]
    assert (ref.job_id, ref.run_id) == (None, record.id)
    assert str(record.created) <= ref.since <= str(record.submitted)


def test_an_answer_that_was_lost_and_the_job_shows_up_late(ws: Workspace, config: ScriptRunConfig) -> None:
    scheduler = use(ws, ScriptedScheduler([LOST], [SILENCE, SILENCE, knows("77")]))
    assert submit(ws, config).record.job_id == "77"
    assert len(scheduler.submitted) == 1


def test_an_answer_that_was_lost_and_the_job_itself_says_that_it_runs(
    ws: Workspace, config: ScriptRunConfig
) -> None:
    class Starts(ScriptedScheduler):
        def submit(self, request: object) -> str:
            (request.run_dir / "status.json").write_text('{"job_id": "55"}')  # type: ignore[attr-defined]
            raise LOST

    scheduler = use(ws, Starts(queries=[SILENCE]))
    assert submit(ws, config).record.job_id == "55"
    assert scheduler.asked == []


def test_a_job_that_certainly_is_not_there_is_submitted_once_more(
    ws: Workspace, config: ScriptRunConfig
) -> None:
    scheduler = use(ws, ScriptedScheduler([LOST, "78"], [Answer()]))
    record = submit(ws, config).record
    assert (record.job_id, record.state) == ("78", RunState.QUEUED)
    first, second = scheduler.submitted
    assert first.run_dir == second.run_dir and first.run_id == second.run_id
    assert len(scheduler.asked) >= 2, "one look is not enough"


def test_absence_takes_its_time(
    ws: Workspace, config: ScriptRunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "LOOK_AGAIN", 1000.0)
    scheduler = use(ws, ScriptedScheduler([LOST], [Answer()]))
    with pytest.raises(SubmissionAmbiguous):
        submit(ws, config)
    for _ in range(3):
        record = again(ws)
        assert (record.state, record.submission["state"]) == (RunState.NOT_STARTED, "ambiguous")
    assert len(scheduler.submitted) == 1


def test_a_job_that_is_lost_twice_is_given_up(ws: Workspace, config: ScriptRunConfig) -> None:
    scheduler = use(ws, ScriptedScheduler([LOST], [Answer()]))
    with pytest.raises(SubmissionRejected, match="two submissions in a row"):
        submit(ws, config, "key")
    assert len(scheduler.submitted) == 2
    assert (only(ws).state, only(ws).reason) == (RunState.FAILED, "Rejected")
    assert ws.history.by_key("key") is None


def test_a_silent_scheduler_leaves_it_open(ws: Workspace, config: ScriptRunConfig) -> None:
    scheduler = use(ws, ScriptedScheduler([LOST], [SILENCE]))
    with pytest.raises(SubmissionAmbiguous, match="it does not answer now") as caught:
        submit(ws, config, "key")
    assert "nothing is submitted twice" in str(caught.value)
    for _ in range(3):
        record = again(ws)
        assert (record.state, record.submission["state"]) == (RunState.NOT_STARTED, "ambiguous")
    assert submit(ws, config, "key").id == record.id
    assert len(scheduler.submitted) == 1
    scheduler.queries = [knows("77", "RUNNING")]
    record = again(ws)
    assert (record.job_id, record.state) == ("77", RunState.STARTING)


def test_what_refresh_finds_absent_it_submits_again_once(ws: Workspace, config: ScriptRunConfig) -> None:
    scheduler = use(ws, ScriptedScheduler([LOST], [SILENCE]))
    with pytest.raises(SubmissionAmbiguous):
        submit(ws, config)
    scheduler.queries = [Answer()]
    assert again(ws).submission["absent_since"]
    assert len(scheduler.submitted) == 1, "the first look only notes it"
    until(lambda: again(ws) and len(scheduler.submitted) == 2)
    assert only(ws).submission["state"] == "ambiguous"
    until(lambda: again(ws).state.final)
    assert len(scheduler.submitted) == 2
    assert only(ws).reason == "Rejected"


def test_what_another_process_is_still_at_is_left_alone(ws: Workspace, config: ScriptRunConfig) -> None:
    scheduler = use(ws, ScriptedScheduler([LOST], [SILENCE]))
    with pytest.raises(SubmissionAmbiguous):
        submit(ws, config)
    scheduler.queries = [knows("77")]
    with held(ws.history.paths.run(only(ws).id)) as mine:
        assert mine is not None
        assert again(ws).job_id is None
    assert again(ws).job_id == "77"


def test_a_file_system_without_locks_is_named(
    ws: Workspace, config: ScriptRunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fake: Lustre mounted without flock."""
    submit(ws, config).wait_for_completion(timeout=PATIENCE)

    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("hpcrun.engine.sending.fcntl.flock", refuse)
    with (
        pytest.raises(HistoryError, match=r"cannot lock .*submit\.lock: Function not implemented") as caught,
        held(ws.history.paths.run(only(ws).id)),
    ):
        pass
    assert "where flock works" in str(caught.value.hint)


def test_canceled_while_it_is_open_and_then_found(ws: Workspace, config: ScriptRunConfig) -> None:
    scheduler = use(ws, ScriptedScheduler([LOST], [SILENCE]))
    with pytest.raises(SubmissionAmbiguous):
        submit(ws, config)
    Run.get(ws, "@-1").cancel()
    assert only(ws).state is RunState.CANCEL_REQUESTED
    scheduler.queries = [knows("77")]
    assert again(ws).job_id == "77"
    assert [ref.job_id for ref in scheduler.canceled] == [None, "77"]
    scheduler.queries = [knows("77", "CANCELLED by 0")]
    assert again(ws).state is RunState.CANCELED


def test_canceled_while_it_is_open_and_never_found(ws: Workspace, config: ScriptRunConfig) -> None:
    scheduler = use(ws, ScriptedScheduler([LOST], [SILENCE]))
    with pytest.raises(SubmissionAmbiguous):
        submit(ws, config)
    Run.get(ws, "@-1").cancel()
    scheduler.queries = [Answer()]
    until(lambda: again(ws).state is RunState.CANCELED)
    assert len(scheduler.submitted) == 1


def test_a_refusal(ws: Workspace, config: ScriptRunConfig) -> None:
    no = SubmissionRejected("Slurm refused the job: invalid partition specified: x", hint="sinfo -s")
    scheduler = use(ws, ScriptedScheduler([no, "1"]))
    with pytest.raises(SubmissionRejected, match="invalid partition") as caught:
        submit(ws, config, "key")
    assert caught.value.hint == "sinfo -s"
    record = only(ws)
    assert (record.state, record.reason, record.message) == (RunState.FAILED, "Rejected", no.message)
    assert record.ended and record.job_id is None and record.key is None
    assert again(ws) == record
    assert len(scheduler.submitted) == 1, "no retry"
    assert submit(ws, config, "key").id != record.id, "the key is free again"


BAD = [
    (ScriptRunConfig("/no/such/folder", "train.sh"), ConfigError),
    (ScriptRunConfig(".", "no_such_script.py"), ConfigError),
    (ScriptRunConfig(".", command="true", compute_target="no-such-site"), ConfigError),
    (ScriptRunConfig(".", command="true", compute_target="local:gpu"), ConfigError),
    (ScriptRunConfig(".", command="true", resources=Resources(nodes=2)), ConfigError),
    (ScriptRunConfig(".", command="true", environment=Environment("e", conda={"name": "e"})), ConfigError),
    (ScriptRunConfig(".", command="true", environment_variables={"HPCRUN_RUN_DIR": "/"}), ConfigError),
    (ScriptRunConfig(".", command="true", resume_from="no_such_run"), NotFoundError),
]


@pytest.mark.parametrize(("config", "error"), BAD)
def test_nothing_is_written_when_the_configuration_is_wrong(
    config: ScriptRunConfig, error: type[Exception], ws: Workspace
) -> None:
    scheduler = use(ws, ScriptedScheduler())
    before = sorted(path for path in ws.folder.rglob("*") if "history.db" not in path.name)
    with pytest.raises(error):
        submit(ws, config, "key")
    assert sorted(path for path in ws.folder.rglob("*") if "history.db" not in path.name) == before
    assert ws.history.list() == [] and scheduler.submitted == []


def test_nothing_is_kept_of_a_source_that_cannot_be_captured(
    ws: Workspace, config: ScriptRunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_big(store: SnapshotStore, folder: Path) -> None:
        raise SnapshotError("too big")

    monkeypatch.setattr(SnapshotStore, "take", too_big)
    scheduler = use(ws, ScriptedScheduler())
    with pytest.raises(SnapshotError):
        submit(ws, config, "key")
    assert ws.history.list() == [] and scheduler.submitted == []
    assert list(ws.history.paths.runs.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_refusal(ws: Workspace, config: ScriptRunConfig) -> None:
    scheduler = use(ws, ScriptedScheduler())
    (ws.folder / "site_configs").mkdir()
    (ws.folder / "file").touch()
    (ws.folder / "site_configs" / "full.yaml").write_text(
        f"scheduler: {{type: local}}\nroot: {ws.folder}/file\n"
    )
    config.compute_target = "full"
    with pytest.raises(SubmissionRejected, match="the run's folder cannot be made"):
        submit(ws, config, "key")
    assert (only(ws).reason, only(ws).key) == ("Rejected", None)
    assert scheduler.submitted == []


def test_files_are_for_their_owner_alone_whatever_the_umask(ws: Workspace, tmp_path: Path) -> None:
    """But for what a script itself opens to others."""
    text = "echo x >outputs/private; echo x >outputs/shared; chmod 644 outputs/shared; echo printed\n"
    folder = source(tmp_path / "open", train_sh=text)
    (folder / "train.sh").chmod(0o777)
    os.umask(0)
    with workspace(tmp_path / "other") as other:
        run = submit(other, ScriptRunConfig(folder, "train.sh"))
        run.wait_for_completion(timeout=PATIENCE)
        run.get_file_names()
        state = Path(os.environ["XDG_STATE_HOME"]) / "hpcrun"
        found = [other.folder / ".hpcrun", *(other.folder / ".hpcrun").rglob("*"), state, *state.rglob("*")]
        open_to_others = {
            path.name for path in found if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077
        }
    assert open_to_others == {"shared"}
    assert stat.S_IMODE((run.folder / "code" / "train.sh").stat().st_mode) == 0o700
