"""What ``hpcrun check`` says of a sweep's file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcrun.config.sweep import load_sweep
from tests.cli_help import Project, document, make_project, refused, typed
from tests.engine_help import workspace

SWEEP = {"space": {"x": {"choice": [0, 1, 2]}}, "sampling": "grid", "metric": "loss", "goal": "minimize"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    for project in make_project(tmp_path):
        monkeypatch.chdir(project.folder)
        (project.folder / "train.py").write_text("print()\n")
        data = {"experiment": "exp", "script": "train.py", "sweep": SWEEP}
        (project.folder / "sweep.yaml").write_text(json.dumps(data))
        yield project


def test_its_first_trial_stands_for_all(project: Project) -> None:
    fine = document("check", "sweep.yaml")
    assert (fine["ok"], fine["target"]) == (True, "local")
    wrong = ["--set", "script=nope.py", "--set", "resources.nodes=3"]
    report = document("check", "sweep.yaml", *wrong, code=3)
    assert {each["code"] for each in report["findings"] if each["level"] == "problem"} == {"Script", "Nodes"}
    with workspace(project.folder.parent / "other") as ws:
        assert ws.check(load_sweep(project.folder / "sweep.yaml")).ok
    assert not (project.folder / ".hpcrun").exists()


def test_its_space_and_its_words_are_looked_at(project: Project) -> None:
    told = typed("check", "sweep.yaml", "--set", "sweep.sampling=gird", code=3)
    assert "sweep.sampling" in told and "did you mean grid?" in told
    told = typed("check", "sweep.yaml", "--set", "sweep.resume_from=[nobody]", code=3)
    assert "sweep.resume_from[0]: there is no run history here yet" in told
    assert "-- ARGS is not for a sweep" in refused("check", "sweep.yaml", "--", "x", code=2)


def test_what_a_pack_asks_for(project: Project) -> None:
    told = typed("check", "sweep.yaml", "--set", "sweep.pack={at_once: 2}", code=3)
    assert "sweep.pack" in told and "local has none: leave pack out" in told


def test_a_sampling_whose_library_is_not_there(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    told = typed(
        "check", "sweep.yaml", "--set", "sweep.sampling=bayesian", "--set", "sweep.max_total_runs=3", code=3
    )
    assert "Program" in told and "hpcrun-toolkit[sweeps]" in told
