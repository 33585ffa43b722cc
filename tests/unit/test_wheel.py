"""The wheel: what is in it, and that it works where there is no checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import hpcrun

ROOT = Path(__file__).resolve().parents[2]


def call(*argv: str | Path, cwd: Path, path: str | None = None) -> str:
    """Run argv to its end; what it printed. The checkout must not be found by any variable."""
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    if path is not None:
        env["PATH"] = path
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build_wheel(out: Path) -> Path:
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out.parent)
    (wheel,) = out.glob("*.whl")
    return wheel


def tracked(folder: str) -> set[str]:
    """Files of a folder as git would commit them, so that caches and editors' leavings do not count."""
    listed = call("git", "-C", ROOT, "ls-files", "-z", "-co", "--exclude-standard", folder, cwd=ROOT)
    return {name for name in listed.split("\0") if name and (ROOT / name).is_file()}


@pytest.mark.slow
def test_the_wheel_works_on_its_own(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path / "dist")
    check_contents(wheel)

    venv = tmp_path / "venv"
    call(sys.executable, "-m", "venv", venv, cwd=tmp_path)
    call(venv / "bin" / "python", "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for command in ([venv / "bin" / "hpcrun"], [venv / "bin" / "python", "-m", "hpcrun"]):
        assert hpcrun.__version__ in call(*command, "--version", cwd=elsewhere)
    check_demo(venv, elsewhere)


def check_contents(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for folder in ("templates", "site_configs", "examples/quickstart"):
        expected = tracked(folder)
        assert any(not name.endswith(".keep") for name in expected), f"{folder} is empty"
        assert {f"hpcrun/_shipped/{name}" for name in expected} <= names
    assert {"hpcrun/py.typed", "hpcrun/__main__.py"} <= names
    packages = {name.split("/")[0] for name in names}
    assert all(p == "hpcrun" or re.fullmatch(r"hpcrun_toolkit-.*\.dist-info", p) for p in packages), packages
    assert any(name.endswith("LICENSE") for name in names)


def check_demo(venv: Path, folder: Path) -> None:
    """The quickstart, from the wheel alone, in an empty folder, with an empty home."""
    (shipped,) = venv.glob("lib/python3*/site-packages/hpcrun/_shipped/examples/quickstart")
    project = folder / "project"
    shutil.copytree(shipped, project)
    path = f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}"
    call("hpcrun", "submit", "run.yaml", "--follow", cwd=project, path=path)
    shown = json.loads(call("hpcrun", "show", "@-1", "--json", cwd=project, path=path))
    assert shown["state"] == "Completed" and shown["id"]
    run_dir = Path(shown["run_dir"])
    assert run_dir.name == shown["id"] and run_dir.is_relative_to(project)
    assert [p for p in (run_dir / "outputs").rglob("*") if p.is_file()], "no output came home"
    assert str(ROOT) not in (run_dir / "job.sh").read_text()
