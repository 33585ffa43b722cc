"""``hpcrun env``, on environments that are made for real, on this machine."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcrun.shells.local import LocalShell
from tests.cli_help import Project, document, ended, hpcrun, make_project, program, refused, typed
from tests.engine_help import until
from tests.wheel_help import wheel


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """With a package of its own to install, by uv where this Python's environment has one."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    wheel(tmp_path / "wheels", "tinypkg", "1.0", "WORD = 'tiny'\n")
    (folder / "requirements.txt").write_text("tinypkg\n")
    typed("init")
    yield from make_project(folder)


USE = "python -c 'import tinypkg'"


def wanting(project: Project, command: str = USE, name: str = "run.yaml", **venv: object) -> str:
    """A configuration that wants a virtual environment; what to type for it."""
    options = ["--no-index", f"--find-links={project.folder.parent}/wheels"]
    section = {"pip_options": options, "python": sys.executable, **venv}
    if "packages" not in venv:
        section.setdefault("requirements", "requirements.txt")
    return project.config(command, name, environment={"venv": section})


def months_ago(project: Project) -> None:
    """From now on nobody has used any of them for a hundred days."""
    then = time.time() - 100 * 86400
    for path in (project.folder / ".hpcrun/environments").glob("*/*"):
        os.utime(path, (then, then))


def test_from_nothing_to_nothing(project: Project) -> None:
    """Made before any run; listed, shown, used, refused to be taken away, taken away."""
    config = wanting(project)
    assert typed("env", "ls") == f"no environments in {project.folder}/.hpcrun/environments\n"
    made = document("env", "build", config)
    assert typed("env", "build", config) == f"{made['name']}: ready in {made['root']}/{made['folder']}\n"
    [each] = document("env", "ls")["environments"]
    assert each["name"].startswith(made["name"]) and (each["state"], each["runs"]) == ("ready", [])
    assert each["bytes"] > 1000 and each["title"] == "venv of requirements.txt"

    going_on = wanting(project, project.until_let_go, "long.yaml")
    run = document("submit", going_on)
    shown = document("env", "show", each["name"])
    assert shown["packages"][-1] == "tinypkg==1.0"
    assert shown["runs"] == shown["unfinished"] == [run["id"]]
    assert "tinypkg==1.0" in typed("env", "show", made["name"].split("-")[1])
    assert f"used by {run['id']}" in refused("env", "rm", made["name"], code=2)
    months_ago(project)
    assert document("env", "gc")["environments"] == []
    project.wait()

    assert "venv of requirements.txt, venv-" in typed("show", run["id"])
    packages = project.home(run["id"]) / "system_logs/packages.txt"
    assert "tinypkg==1.0\n" in packages.read_text()
    assert f"{each['name']}  ready" in typed("env", "gc")
    assert typed("env", "gc", "--older-than", "200d").startswith("nothing was deleted: to delete 0 ")
    assert typed("env", "rm", made["name"]).startswith(f"deleted: {each['name']}, ")
    assert list(Path(made["root"]).iterdir()) == []
    assert "no environment is called" in refused("env", "rm", made["name"], code=4)


def test_a_run_whose_environment_was_taken_away_meanwhile_says_so(project: Project) -> None:
    """Its script looks for it, and says what to do."""
    config = wanting(project)
    run = document("submit", config, "--wait")
    typed("env", "rm", "venv")
    script = project.home(run["id"]) / "job.sh"
    (project.home(run["id"]) / "claim").unlink()
    done = LocalShell().run(["bash", str(script)], timeout=60, env={"HPCRUN_JOB_ID": "9"})
    assert done.rc == 103
    said = (project.home(run["id"]) / "status.json").read_text()
    assert "is not at" in said and "make it with hpcrun env build" in said


def test_a_build_that_fails(project: Project) -> None:
    """Its words are the error; its log is kept, until gc takes it."""
    config = wanting(project, packages=["tinypkg==9"])
    done = hpcrun("env", "build", config)
    assert done.exit_code == 8 and "tinypkg==9" in done.stderr.splitlines()[-1]
    assert hpcrun("submit", config).exit_code == 6
    run = document("show", "@-1")
    assert (run["state"], run["reason"]) == ("Failed", "Environment") and "tinypkg==9" in run["message"]
    told = document("explain", run["id"])
    assert told["cause"] == "Environment" and any("tinypkg==9" in line for line in told["evidence"])
    assert {each["state"] for each in document("env", "ls")["environments"]} == {"failed"}
    assert "its log" in typed("env", "show", "venv")
    assert document("env", "gc", "--yes")["environments"] == []
    months_ago(project)
    gone = document("env", "gc", "--yes")
    assert gone["deleted"] is True and len(gone["environments"]) == 2
    assert document("env", "ls")["environments"] == []


def test_caches_go_when_asked_for(project: Project) -> None:
    """With what they would free; never while an environment is made that reads them, nor what is a link."""
    config = wanting(project)
    made = document("env", "build", config)
    root = Path(made["root"])
    for name in (".cache/pip/wheels", ".cache/conda/pkgs", ".apptainer/cache"):
        (root / name).mkdir(parents=True)
        (root / name / "large file").write_bytes(b"x" * 5000)
    (root / ".cache/conda/pkgs/linked").hardlink_to(root / made["folder"] / "packages.txt")
    (root / ".cache/conda/pkgs").chmod(0o500)
    (project.folder / "elsewhere").mkdir()
    (root / ".cache/moved").symlink_to(project.folder / "elsewhere")
    assert document("env", "gc")["caches"] == []
    shown = document("env", "gc", "--caches")
    assert shown["deleted"] is False and shown["bytes"] == 15000
    assert [each["name"] for each in shown["caches"]] == [".apptainer", ".cache/conda", ".cache/pip"]
    assert "to delete 0 environments and 3 caches, " in typed("env", "gc", "--caches")
    (root / "venv-00-x86_64.1").mkdir()
    (root / "venv-00-x86_64.lock").symlink_to("venv-00-x86_64.1")
    assert "is being made" in refused("env", "gc", "--caches", "--yes", code=2)
    (root / "venv-00-x86_64.lock").unlink()
    assert "deleted: 0 environments and 3 caches" in typed("env", "gc", "--caches", "--yes")
    assert [path.name for path in (root / ".cache").iterdir()] == ["moved"]
    assert (project.folder / "elsewhere").is_dir() and not (root / ".apptainer").exists()
    assert "ready" in {each["state"] for each in document("env", "ls")["environments"]}


def test_no_environment_to_be_made(project: Project) -> None:
    config = project.config("true")
    assert "needs no making" in refused("env", "build", config, code=3)


def test_a_file_that_is_not_there_is_a_problem_of_its_line(project: Project) -> None:
    config = wanting(project, requirements="gone.txt")
    words = refused("submit", config, code=3)
    assert "run.yaml:1:" in words and "environment.venv.requirements: cannot read gone.txt" in words
    assert project.runs == []


def test_canceled_while_it_is_made(project: Project) -> None:
    """Nothing is ever submitted; the build goes on, for others."""
    config = wanting(project)
    text = (project.folder / config).read_text()
    setup = f'"setup": "until [ -e {project.folder}/go ]; do sleep 0.1; done", "venv"'
    (project.folder / config).write_text(text.replace('"venv"', setup))
    with program("submit", config) as waiting:
        until(lambda: [run["state"] for run in document("ls")["runs"]] == ["Preparing"], seconds=60)
        typed("cancel", "@-1")
        assert ended(waiting)[0] == 0
    record = project.record()
    assert (record["state"], record["job_id"]) == ("Canceled", None)
    project.let_go()
    until(lambda: [each["state"] for each in document("env", "ls")["environments"]] == ["ready"], seconds=60)


@pytest.mark.parametrize("by", ["uv", "pip"])
def test_a_lock_makes_the_same_again(project: Project, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """By pip with hashes: another package of that name and version is refused. Of wheels in a folder uv tells
    none."""
    if by == "pip":
        monkeypatch.setenv("PATH", "/usr/local/bin:/usr/bin:/bin")
    python = sys._base_executable if by == "pip" else sys.executable  # type: ignore[attr-defined]
    first = document("submit", wanting(project, python=python), "--wait")
    typed("env", "lock", first["id"], "-o", "lock.txt")
    assert typed("env", "lock", first["id"]) == Path("lock.txt").read_text()
    again = document("submit", wanting(project, requirements="lock.txt", python=python), "--wait")
    assert again["state"] == "Completed"
    assert again["config"]["environment"]["name"] != first["config"]["environment"]["name"]
    lists = [(project.home(run["id"]) / "system_logs/packages.txt").read_text() for run in (first, again)]
    assert lists[0] == lists[1]
    if by == "pip":
        assert re.fullmatch(r"tinypkg==1\.0 --hash=sha256:[0-9a-f]{64}\n", Path("lock.txt").read_text())
        wheel(project.folder.parent / "wheels", "tinypkg", "1.0", "WORD = 'another'\n")
        typed("env", "rm", again["config"]["environment"]["name"])
        done = hpcrun("submit", wanting(project, requirements="lock.txt", python=python))
        assert done.exit_code == 6 and "hash" in done.stderr.lower(), done.stderr


def test_a_rerun_reads_the_snapshot(project: Project) -> None:
    """What the earlier run had, whatever the source directory holds now."""
    first = document("submit", wanting(project), "--wait")
    (project.folder / "requirements.txt").write_text("tinypkg==9\n")
    again = document("rerun", first["id"], "--wait")
    assert again["state"] == "Completed"
    assert again["config"]["environment"] == first["config"]["environment"]
