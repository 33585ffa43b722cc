"""Runs in conda environments that are made for them, on this machine, from submission to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpcrun import CondaDependencies, Environment, Experiment, ScriptRunConfig, Workspace
from hpcrun.errors import ConfigError, SubmissionRejected
from hpcrun.experiment import Run
from tests import conda_help as conda
from tests.engine_help import source, workspace

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(conda.why_not()), reason=str(conda.why_not()))]

SHOW = """\
import json, os, sys
import greeting
keys = ("CONDA_PREFIX", "GREETING", "FROM_FILE", "PYTHONNOUSERSITE")
found = {key: os.environ[key] for key in keys}
print(json.dumps({"prefix": sys.prefix, "greeting": greeting.VERSION, **found}))
"""
FILE = """\
channels: [{channel}]
dependencies:
- old-friend
variables:
  FROM_FILE: yes
"""


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> str:
    return conda.channel(tmp_path_factory.mktemp("conda"))


def submit(ws: Workspace, project: Path, environment: Environment, script: str = "show.py") -> Run:
    run = Experiment(ws, "conda").submit(
        ScriptRunConfig(str(project), script=script, environment=environment)
    )
    run.wait_for_completion(raise_on_error=False)
    return run


def text(run: Run, name: str) -> str:
    return (Path(run.folder) / name).read_text()


def test_an_environment_file_becomes_an_environment(channel: str, tmp_path: Path) -> None:
    """Made once for two runs, activated with its variables, and what was resolved is in each run."""
    project = source(tmp_path / "project", show_py=SHOW)
    (project / "environment.yml").write_text(FILE.format(channel=channel))
    with workspace(tmp_path / "ws") as ws:
        file = Environment("file", conda={"file": "environment.yml"})
        first, second = submit(ws, project, file), submit(ws, project, file)
        for run in (first, second):
            assert run.get_status() == "Completed", text(run, "system_logs/environment.txt")
            assert "/old-friend-1.0-" in text(run, "system_logs/packages.txt")
        found = json.loads(text(first, "user_logs/std_log.txt"))
        assert json.loads(text(second, "user_logs/std_log.txt")) == found
        assert found["prefix"] == found["CONDA_PREFIX"]
        assert Path(found["prefix"]).parent.name.startswith("conda-")
        assert found["greeting"] == "1.1"
        assert found["GREETING"] == ":hello to the world"
        assert found["FROM_FILE"] == "yes"


def test_dependencies_put_together_in_python(channel: str, tmp_path: Path) -> None:
    environment = Environment("azure")
    environment.python.conda_dependencies = CondaDependencies.create(
        conda_packages=["greeting=1.0"], python_version=conda.SHORT
    )
    environment.python.conda_dependencies.add_channel(channel)
    project = source(tmp_path / "project", show_py="import greeting\nprint(greeting.VERSION)\n")
    with workspace(tmp_path / "ws") as ws:
        run = submit(ws, project, environment)
        assert run.get_status() == "Completed", text(run, "system_logs/environment.txt")
        assert text(run, "user_logs/std_log.txt") == "1.0\n"


def test_the_solver_says_why_a_run_failed(channel: str, tmp_path: Path) -> None:
    project = source(tmp_path / "project", show_py=SHOW)
    environment = Environment(
        "hard", conda={"channels": [channel], "conda_packages": ["greeting=2.0", "old-friend"]}
    )
    with workspace(tmp_path / "ws") as ws:
        with pytest.raises(SubmissionRejected) as caught:
            submit(ws, project, environment)
        assert "the conda environment of greeting=2.0, old-friend could not be made" in caught.value.message
        said = "old-friend * cannot be installed because there are no viable options"
        assert said in caught.value.message
        (run,) = Run.list(Experiment(ws, "conda"))
        assert (run.get_status(), run.record.reason) == ("Failed", "Environment")
        assert said in json.dumps(run.explain())
        assert "greeting <2" in text(run, "system_logs/environment.txt")


def test_a_file_that_is_wrong_is_told_of_by_its_own_line(tmp_path: Path) -> None:
    project = source(tmp_path / "project", show_py=SHOW)
    (project / "environment.yml").write_text("dependencies:\n- a\nchanels: [b]\n")
    with workspace(tmp_path / "ws") as ws:
        with pytest.raises(ConfigError, match=r"environment\.yml:3:1: unknown key chanels"):
            submit(ws, project, Environment("e", conda={"file": "environment.yml"}))
        with pytest.raises(ConfigError, match=r"cannot read gone\.yml: No such file"):
            submit(ws, project, Environment("e", conda={"file": "gone.yml"}))
        assert not Experiment.list(ws)
