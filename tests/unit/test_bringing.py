"""Environments that are made on the caller's machine: what it is told of the other one, and by whom."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hpcrun.engine.bringing import bring, machine_of
from hpcrun.engine.environments import Stand
from hpcrun.environments import recipe_of
from hpcrun.environments.recipe import Recipe
from hpcrun.errors import CommandError
from hpcrun.models.environment import Environment
from hpcrun.quoting import ShellText
from hpcrun.render import Made
from hpcrun.render_build import files_of, render_builder
from tests.engine_help import slurm_site
from tests.far_help import FarHere


def test_the_files_of_a_recipe_come_from_the_builder_itself() -> None:
    """Not from the machine that asks, which could have anything made here."""
    files = {"specs.txt": b"numpy\n", "it's\x01odd.txt": bytes(range(256)) * 9}
    recipe = Recipe("conda", "t", ShellText("true"), ShellText("true"), files, {"aid.py": b"pass\n"})
    script = render_builder(Made(recipe, "/root"), slurm_site())
    assert files_of(script) == {**files, "aid.py": b"pass\n"}


def test_of_a_conda_environment() -> None:
    environment = Environment("e", conda={"conda_packages": ["numpy"], "channels": ["c"]})
    recipe = recipe_of(environment, lambda name: Path(name).read_bytes(), slurm_site())
    assert recipe is not None
    found = files_of(render_builder(Made(recipe, "/root"), slurm_site()))
    assert (found["channels.txt"], found["specs.txt"]) == (b"c\n", b"numpy\n")
    assert b"alternative_target_prefix" in found["conda_rattler.py"]


def test_who_has_no_py_rattler_leaves_it_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rattler", None)
    shell = FarHere(tmp_path)
    bring(shell, {"root": "/root", "name": "conda-0"}, "", Stand("building", "conda-0.1", wanted=True), 0)
    assert shell.asked == []


def test_what_a_machine_is() -> None:
    facts = {"machine": "aarch64", "linux": "5.14.0-427.el9.aarch64", "glibc": "2.34", "cuda": "12.4"}
    known = machine_of(facts, "")
    assert known["subdir"] == "linux-aarch64"
    assert known["virtual"] == [
        ["__unix", "0", "0"],
        ["__linux", "5.14.0", "0"],
        ["__glibc", "2.34", "0"],
        ["__cuda", "12.4", "0"],
        ["__archspec", "1", "aarch64"],
    ]
    overridden = machine_of(facts, "CONDA_OVERRIDE_CUDA=\nCONDA_OVERRIDE_GLIBC=2.28\n")["virtual"]
    assert ["__glibc", "2.28", "0"] in overridden
    assert not [each for each in overridden if each[0] == "__cuda"]


@pytest.mark.parametrize("facts", [{}, {"machine": "pdp11"}])
def test_a_machine_without_packages(facts: dict[str, str]) -> None:
    with pytest.raises(CommandError, match="conda has no packages for"):
        machine_of(facts, "")
