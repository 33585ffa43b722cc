"""For each feature a small run.yaml, a site, and the job script that must come out, byte for byte.

The cases are the folders in tests/golden; its README says how to add one.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from hpcrun.config.load import apply_site, check_files, load_run_config
from hpcrun.config.sites import FOLDER, read_site, split_target
from hpcrun.environments import recipe_of
from hpcrun.launchers.farming import farm_config, farm_text
from hpcrun.models.pack import Pack
from hpcrun.models.site import Site
from hpcrun.render import Job, Made, render_script
from hpcrun.render_build import render_builder
from hpcrun.shells.local import LocalShell
from hpcrun.shipped import shipped_folder

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/run.yaml"))
SHELLCHECK = str(Path(sys.executable).parent / "shellcheck")
UPDATE = os.environ.get("HPCRUN_UPDATE_GOLDEN") == "1"


def site_of(case: Path) -> Site:
    """The case's own site, or else the shipped one that its ``compute_target`` names."""
    own = case / "site.yaml"
    if own.exists():
        return read_site(own)
    name, _ = split_target(load_run_config(case / "run.yaml").compute_target)
    return read_site(shipped_folder(FOLDER) / f"{name}.yaml")


def render(case: Path) -> str:
    """The script of a case; all that would differ between machines is fixed."""
    return render_script(job_of(case), [case / "templates"])


def pack_of(case: Path) -> str:
    """The script of the job that ten runs like that of a case share; not the program in it."""
    job = job_of(case)
    folder, pack = (
        "/scratch/alice/hpcrun/arrays/LEADER",
        Pack(**yaml.safe_load((case / "pack.yaml").read_text())),
    )
    config = farm_config(job.config, pack, 10, 6, folder, "10 trials")
    job = replace(job, run_id="LEADER", run_dir=folder, config=config, packed=False, pack="exit 0")
    return render_script(job).replace(farm_text(), "…")


def job_of(case: Path) -> Job:
    site = site_of(case)
    config = load_run_config(case / "run.yaml")
    config = apply_site(config, site, split_target(config.compute_target)[1])
    assert not check_files(config)
    experiment = config.experiment or "golden"
    run_id = f"{experiment}_20260131-120000_abcdefgh"
    source = Path(config.source_directory)
    root = site.root or "/scratch/alice/hpcrun"
    recipe = recipe_of(config.environment, lambda name: (source / name).read_bytes(), site)
    return Job(
        run_id=run_id,
        experiment=experiment,
        target=config.compute_target,
        run_dir=f"{root}/runs/{run_id}",
        config=config,
        site=site,
        default_python="/opt/python/bin/python",
        conda_root="/opt/conda",
        made=None if recipe is None else Made(recipe, f"{root}/environments"),
        packed=(case / "pack.yaml").exists(),
    )


def builder(case: Path) -> str | None:
    """What makes the environment of a case, where hpcrun does."""
    site, config = site_of(case), load_run_config(case / "run.yaml")
    source = Path(config.source_directory)
    recipe = recipe_of(config.environment, lambda name: (source / name).read_bytes(), site)
    if recipe is None:
        return None
    return render_builder(Made(recipe, "/scratch/alice/hpcrun/environments"), site)


@pytest.mark.parametrize("name", sorted(path.parent.name for path in GOLDEN.glob("*/pack.sh")))
def test_the_job_that_several_share_is_the_golden_one(name: str) -> None:
    expected, script = GOLDEN / name / "pack.sh", pack_of(GOLDEN / name).encode()
    if UPDATE:
        expected.write_bytes(script)
    assert script.decode() == expected.read_bytes().decode()


@pytest.mark.parametrize("name", sorted(path.parent.name for path in GOLDEN.glob("*/build.sh")))
def test_what_makes_its_environment_is_the_golden_one(name: str) -> None:
    expected, script = GOLDEN / name / "build.sh", str(builder(GOLDEN / name)).encode()
    if UPDATE:
        expected.write_bytes(script)
    assert script.decode() == expected.read_bytes().decode()


@pytest.mark.parametrize("name", CASES)
def test_the_script_is_the_golden_one_byte_for_byte(name: str) -> None:
    expected = GOLDEN / name / "job.sh"
    script = render(GOLDEN / name).encode()
    if UPDATE:
        expected.write_bytes(script)
    assert script.decode() == expected.read_bytes().decode(), (
        "the script has changed: if it was meant to, HPCRUN_UPDATE_GOLDEN=1 writes the new one"
    )


def test_every_golden_script_is_one_that_bash_can_read() -> None:
    for path in GOLDEN.glob("*/*.sh"):
        result = LocalShell().run(["bash", "-n", str(path)], timeout=10)
        assert (result.rc, result.stdout, result.stderr) == (0, "", ""), path


def test_no_golden_script_is_left_of_a_case_that_is_gone() -> None:
    assert sorted(path.parent.name for path in GOLDEN.glob("*/job.sh")) == CASES


@pytest.mark.slow
def test_shellcheck_has_nothing_to_say_about_any_golden_script() -> None:
    scripts = sorted(str(path) for path in GOLDEN.glob("*/*.sh"))
    result = LocalShell().run([SHELLCHECK, "--norc", *scripts], timeout=300)
    assert result.rc == 0, result.stdout + result.stderr


def test_every_case_can_be_read_by_people() -> None:
    for name in CASES:
        assert site_of(GOLDEN / name).description, f"{name}: the site says what it shows"


def test_every_shipped_cluster_has_a_case() -> None:
    clusters = {path.stem for path in shipped_folder(FOLDER).glob("*.yaml")} - {"example", "local"}
    cases = [GOLDEN / name for name in CASES if not (GOLDEN / name / "site.yaml").exists()]
    assert sorted(clusters) == sorted(site_of(case).name for case in cases)
