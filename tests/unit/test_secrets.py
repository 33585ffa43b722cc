"""Secrets reach the run and nothing else: a canary is looked for in all that hpcrun writes (fault 35)."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Experiment, ScriptRunConfig, Secret, Workspace
from hpcrun.config.load import dump_run_config, read_run_config
from hpcrun.engine import reconcile
from hpcrun.engine.refresh import refresh
from hpcrun.errors import ConfigError, SubmissionAmbiguous, SubmissionRejected
from hpcrun.history.paths import RunPaths
from hpcrun.history.verify import verify
from hpcrun.schedulers.base import Answer
from hpcrun.shells.local import LocalShell
from tests.cli_help import PATIENCE, Project, ended, hpcrun, make_project, program, refused, typed
from tests.engine_help import ScriptedScheduler, knows, source, use, workspace
from tests.snapshot_help import git

CANARY = "c4n4ry $(id) 'quoted'\nof two lines"
SHOWN = "c4n4ry"

# Says in digits, which hold no canary, whether the variable came through as it was.
TELL = "import hashlib, os; print(hashlib.sha256(os.environ['TOKEN'].encode()).hexdigest())"


def digest(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    yield from make_project(tmp_path)


def holding(*folders: Path) -> list[Path]:
    """The files that hold the canary."""
    every = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [path for path in every if SHOWN.encode() in path.read_bytes()]


def command_lines() -> bytes:
    found = b""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += process.read_bytes()
        except OSError:
            continue
    return found


def test_a_canary_is_found_in_the_run_and_nowhere_else(project: Project) -> None:
    state = Path(os.environ["XDG_STATE_HOME"])
    waiting = f'{sys.executable} -c "{TELL}"; {project.until_let_go}'
    name = project.config(waiting, secrets={"TOKEN": "env:MY_TOKEN"})
    submitting = program("--debug", "submit", name, "--follow", env={**os.environ, "MY_TOKEN": CANARY})
    while submitting.poll() is None:
        assert SHOWN.encode() not in command_lines()
        if any(project.folder.glob(".hpcrun/runs/*/user_logs/*")):
            break
    run_id = project.ready()
    secrets = RunPaths(project.home(run_id)).secrets
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    assert holding(project.folder, state) == [secrets]
    assert SHOWN.encode() not in command_lines()
    project.let_go()
    code, out, err = ended(submitting)
    assert code == 0 and digest(CANARY) in out, err
    assert SHOWN not in out + err
    assert holding(project.folder, state) == [], "the file goes with the end of the run"
    for words in (("show", run_id, "--json"), ("history", "verify"), ("ls",), ("logs", run_id, "--system")):
        assert SHOWN not in typed(*words)
    assert "env:MY_TOKEN" in (project.home(run_id) / "config.yaml").read_text()


def test_a_rerun_reads_the_same_place_again(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    place = project.folder.parent / "token of mine"
    place.write_text("first\n")
    place.chmod(0o600)
    name = project.config(f'{sys.executable} -c "{TELL}"', secrets={"TOKEN": f"file:{place}"})
    assert digest("first") in typed("submit", name, "--follow")
    place.write_text("second\n")
    assert digest("second") in typed("rerun", "@-1", "--follow")
    assert digest("third") in typed("rerun", "@-1", "--follow", "--set", "secrets.TOKEN=env:X", X="third")
    place.unlink()
    assert f"cannot read {place}" in refused("rerun", "@-3", code=3)
    assert len(project.runs) == 3


def test_what_cannot_be_had_is_said_before_anything_is_written(project: Project) -> None:
    (project.folder / "mine").write_text("x")
    (project.folder / "mine").chmod(0o600)
    outside = project.folder.parent / "theirs"
    outside.write_text("x")
    outside.chmod(0o644)
    places = {
        "A": "env:NOT_SET",
        "B": f"file:{project.folder}/mine",
        "C": f"file:{outside}",
        "D": f"file:{project.folder.parent}",
        "E": "file:/dev/null",
    }
    said = refused("submit", project.config("true", secrets=places), code=3)
    for words in (
        "the variable NOT_SET is not set here",
        "mine is in the source directory, and would be in its snapshot",
        f"others may read {outside}",
        "secrets.D",
        "/dev/null is not a file",
        "run.yaml:1:",
    ):
        assert words in said
    assert not (project.folder / ".hpcrun").exists()


@pytest.mark.parametrize("place", [SHOWN, f"env:{SHOWN} x", f"file:{SHOWN}", f"{SHOWN}:x", ""])
def test_a_value_in_the_place_of_its_reference_is_not_repeated(project: Project, place: str) -> None:
    name = project.config("true", secrets={"TOKEN": place})
    for args in (("submit", name), ("--debug", "submit", name)):
        result = hpcrun(*args)
        assert result.exit_code == 3
        assert "secrets.TOKEN" in result.stderr and "never the value itself" in result.stderr
        assert SHOWN not in result.output


@pytest.mark.parametrize("secrets", [SHOWN, [SHOWN], {"TOKEN": [SHOWN]}, {"TOKEN": {SHOWN: 1}}])
def test_nor_is_one_in_the_place_of_them_all(project: Project, secrets: object) -> None:
    assert SHOWN not in refused("submit", project.config("true", secrets=secrets), code=3)


def test_names_are_checked(project: Project) -> None:
    both: dict[str, Any] = {"environment_variables": {"A": "1"}, "secrets": {"A": "env:HOME"}}
    assert "both have A" in refused("submit", project.config("true", **both), code=3)
    own = project.config("true", secrets={"HPCRUN_RUN_ID": "env:HOME"})
    assert "secrets: HPCRUN_RUN_ID is hpcrun's own" in refused("submit", own, code=3)


def test_the_configuration_keeps_the_reference_and_never_a_value(tmp_path: Path) -> None:
    config = ScriptRunConfig(tmp_path, "train.py", secrets={"A": "env:TOKEN", "B": "file:~/b"})
    assert read_run_config(dump_run_config(config), "again") == config
    given = ScriptRunConfig(tmp_path, "train.py", secrets={"A": Secret(SHOWN)})
    assert SHOWN not in dump_run_config(given) + repr(given) + given.model_dump_json()
    assert dump_run_config(read_run_config(dump_run_config(given), "again")) == dump_run_config(given)


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with workspace(tmp_path / "ws") as made:
        yield made


def config_with(tmp_path: Path, **secrets: str | Secret) -> ScriptRunConfig:
    folder = source(tmp_path / "src", train_sh=f'{sys.executable} -c "{TELL}"\n')
    return ScriptRunConfig(folder, "train.sh", secrets=secrets)


def test_a_secret_given_in_python_is_asked_for_when_it_is_rerun(ws: Workspace, tmp_path: Path) -> None:
    run = Experiment(ws, "test").submit(config_with(tmp_path, TOKEN=Secret(CANARY)))
    run.wait_for_completion(timeout=PATIENCE)
    assert digest(CANARY) in (run.folder / "user_logs" / "std_log.txt").read_text()
    assert holding(ws.folder) == []
    with pytest.raises(ConfigError, match="given in Python and kept nowhere"):
        run.rerun()


def test_the_submitters_own_variable_is_not_handed_on_as_well(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", SHOWN)
    folder = source(tmp_path / "src", train_sh='echo "[$MY_TOKEN] ${#TOKEN}"\n')
    config = ScriptRunConfig(folder, "train.sh", secrets={"TOKEN": "env:MY_TOKEN"})
    run = Experiment(ws, "test").submit(config)
    run.wait_for_completion(timeout=PATIENCE)
    assert (run.folder / "user_logs" / "std_log.txt").read_text() == f"[] {len(SHOWN)}\n"


def test_the_file_stays_while_the_run_may_come_back_and_goes_at_its_end(
    ws: Workspace, tmp_path: Path
) -> None:
    scheduler = use(ws, ScriptedScheduler(queries=[knows("1", "RUNNING")]))
    run = Experiment(ws, "test").submit(config_with(tmp_path, TOKEN=Secret(SHOWN)))
    secrets = RunPaths(run.folder).secrets
    for word, there in (("RUNNING", True), ("REQUEUED", True), ("PENDING", True), ("NODE_FAIL", False)):
        scheduler.queries = [knows("1", word)]
        refresh(ws.history, ws.targets)
        assert secrets.exists() is there, word


def test_it_has_gone_before_the_end_is_written_down(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody looks again at a run that has ended, so a kill between the two must not leave it."""
    scheduler = use(ws, ScriptedScheduler(queries=[knows("1", "RUNNING")]))
    run = Experiment(ws, "test").submit(config_with(tmp_path, TOKEN=Secret(SHOWN)))
    scheduler.queries = [knows("1", "NODE_FAIL")]
    with monkeypatch.context() as patch:
        patch.setattr(ws.history, "update", _killed)
        with pytest.raises(KeyboardInterrupt):
            refresh(ws.history, ws.targets)
    secrets = RunPaths(run.folder).secrets
    assert not secrets.exists() and not ws.history.get(run.id).state.final
    refresh(ws.history, ws.targets)
    assert verify(ws.history.paths).findings == []
    secrets.write_text(SHOWN)  # however it came there
    (finding,) = verify(ws.history.paths).findings
    assert (finding.what, finding.where) == ("leftover", str(secrets))


def test_it_goes_with_a_refusal_too(ws: Workspace, tmp_path: Path) -> None:
    use(ws, ScriptedScheduler(submits=[SubmissionRejected("no")]))
    with pytest.raises(SubmissionRejected):
        Experiment(ws, "test").submit(config_with(tmp_path, TOKEN=Secret(SHOWN)))
    assert holding(ws.folder) == []


def test_whoever_finishes_a_submission_reads_it_where_it_is(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process was killed before the folder was there: the next one has the reference, and no value."""
    monkeypatch.setenv("MY_TOKEN", "later")
    monkeypatch.setattr(reconcile, "LOOK_AGAIN", 0.0)
    use(ws, ScriptedScheduler(queries=[Answer()]))
    for set_here in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr("hpcrun.places.near.NearPlace.fill", _killed)
            with pytest.raises(KeyboardInterrupt):
                Experiment(ws, "test").submit(config_with(tmp_path, TOKEN="env:MY_TOKEN"))
        if not set_here:
            monkeypatch.delenv("MY_TOKEN")
        refresh(ws.history, ws.targets)
        record = ws.history.get(ws.history.resolve("@-1"))
        if set_here:
            assert record.job_id and "later" in RunPaths(Path(record.run_dir)).secrets.read_text()
        else:
            assert (record.state, record.reason) == ("Failed", "Rejected")
            assert "MY_TOKEN is not set here" in record.message


def _killed(*args: object) -> None:
    raise KeyboardInterrupt


def test_a_second_try_keeps_the_value(ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "LOOK_AGAIN", 0.0)
    use(ws, ScriptedScheduler(submits=[SubmissionAmbiguous("lost"), "2"], queries=[Answer()]))
    run = Experiment(ws, "test").submit(config_with(tmp_path, TOKEN=Secret(SHOWN)))
    assert run.record.job_id == "2" and SHOWN in RunPaths(run.folder).secrets.read_text()


def test_a_diff_that_shows_the_value_is_told_of(project: Project) -> None:
    git(project.folder, "init", "-q")
    (project.folder / "settings.py").write_text("token = ''\n")
    git(project.folder, "add", "settings.py")
    git(project.folder, "commit", "-qm", "first")
    (project.folder / "settings.py").write_text(f"token = '{SHOWN}'\n")
    result = hpcrun("submit", project.config("true", secrets={"TOKEN": "env:X"}), "--wait", X=SHOWN)
    assert result.exit_code == 0
    assert (
        "hpcrun: note: git.diff, which is kept with the run, shows the value of the secret TOKEN"
        in result.stderr
    )
    assert SHOWN not in result.output


def test_git_is_not_told_either(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """hpcrun itself takes no value for a word of a command."""
    seen: list[str] = []
    real = LocalShell.run

    def run(self: LocalShell, argv: list[str], **more: object) -> object:
        seen.extend(argv)
        return real(self, argv, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalShell, "run", run)
    typed("submit", project.config("true", secrets={"TOKEN": "env:X"}), "--wait", X=SHOWN)
    assert seen and not any(SHOWN in word for word in seen)
