"""Modules, conda, containers in the rendered script, when bash runs it (faults 20, 21)."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Environment, ScriptRunConfig
from hpcrun.places.status import read_status
from hpcrun.render import Job
from tests.engine_help import install, job, local_site, run_script


def command(text: str | list[str], **more: Any) -> ScriptRunConfig:
    return ScriptRunConfig(".", command=text, **more)


def log(folder: Path) -> str:
    return (folder / "user_logs" / "std_log.txt").read_text()


def failed_in_environment(made: Job, env: dict[str, str] | None = None) -> str:
    """The message of a run that failed before its payload, with the environment's own exit code."""
    folder = install(made, {})
    assert run_script(folder, env).rc == 103
    found = read_status(folder / "status.json")
    assert found is not None
    assert (found.state, found.stage, found.exit_code) == ("failed", "environment", 103)
    assert not (folder / "user_logs" / "std_log.txt").exists()
    return found.message


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    env = Environment("e", python={"interpreter_path": "/no 'such/python"})
    message = failed_in_environment(job(tmp_path / "run", command("true", environment=env)))
    assert message.startswith("there is no interpreter /no 'such/python on ")


def test_modules_without_a_module_command(tmp_path: Path) -> None:
    config = command("true", environment=Environment("e", modules=["CUDA"]))
    path = {"PATH": os.environ["PATH"]}
    assert failed_in_environment(job(tmp_path / "run", config), path).startswith("there is no module command")


def test_modules_are_loaded_in_order_before_the_setup_lines(tmp_path: Path) -> None:
    (tmp_path / "init").mkdir()
    (tmp_path / "init" / "bash").write_text(
        'module() { [ "$2" != bad ] || return 1; : "$NEVER_SET"; export LOADED="$LOADED+$2"; }\n'
    )
    env = Environment("e", modules=["a b"], setup="LOADED=$LOADED+$UNSET; export LOADED")
    site = local_site(modules=["2025"], setup="LOADED=$LOADED+site")
    folder = install(job(tmp_path / "run", command("echo $LOADED", environment=env), site), {})
    run_script(folder, {"MODULESHOME": str(tmp_path)})
    assert log(folder) == "+2025+a b+site+\n"
    bad = command("true", environment=Environment("e", modules=["bad"]))
    made = job(tmp_path / "other", bad)
    assert failed_in_environment(made, {"MODULESHOME": str(tmp_path)}).startswith("module load bad failed")


def fake_conda(root: Path, activate: str) -> Path:
    """A conda whose ``activate`` does as it is told, and which is not fit for ``set -u``."""
    profile = root / "etc" / "profile.d" / "conda.sh"
    profile.parent.mkdir(parents=True)
    profile.write_text(f': "$NEVER_SET_ANYWHERE"\nconda() {{\n : "$NOR_THIS"\n{activate}\n}}\n')
    python = root / "envs" / "torch" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "python of torch"\n')
    python.chmod(0o755)
    return root


ACTIVATE = 'export CONDA_PREFIX="{root}/envs/torch" PATH="{root}/envs/torch/bin:$PATH"; WANTED=$2'


@pytest.mark.parametrize("by", ["name", "prefix"])
def test_conda_is_activated_though_it_is_not_fit_for_set_u(by: str, tmp_path: Path) -> None:
    root = fake_conda(tmp_path / "it's conda", ACTIVATE.format(root=tmp_path / "it's conda"))
    value = "torch" if by == "name" else str(root / "envs" / "torch")
    config = command(["python"], environment=Environment("e", conda={by: value}))
    folder = install(job(tmp_path / "run", config, conda_root=str(root)), {})
    assert run_script(folder).rc == 0
    assert log(folder) == "python of torch\n"


@pytest.mark.parametrize(
    ("activate", "said"),
    [
        ("return 1", "conda activate torch failed"),
        ("true", "conda activate torch left CONDA_PREFIX at ''"),
        ('export CONDA_PREFIX="{root}/envs/torch"', "after conda activate torch, python is /"),
    ],
)
def test_conda_that_does_not_activate_is_found_out(activate: str, said: str, tmp_path: Path) -> None:
    root = fake_conda(tmp_path / "conda", activate.format(root=tmp_path / "conda"))
    config = command("true", environment=Environment("e", conda={"name": "torch"}))
    assert said in failed_in_environment(job(tmp_path / "run", config, conda_root=str(root)))


def test_no_conda_there(tmp_path: Path) -> None:
    config = command("true", environment=Environment("e", conda={"name": "torch"}))
    message = failed_in_environment(job(tmp_path / "run", config, conda_root="/no/conda"))
    assert "no conda.sh under /no/conda/etc/profile.d and no environment at /no/conda/envs/torch" in message


PRINT_VARIABLES = """\
import os
for name in ("CONDA_PREFIX", "FROM_FILE", "FROM_PACKAGE", "BOTH", "UNSET", "ACTIVATED", "PYTHONNOUSERSITE"):
    print(name, repr(os.environ.get(name)))
"""


def made_prefix(prefix: Path) -> Path:
    """What a conda environment looks like that hpcrun made, as far as activation goes; its python is ours."""
    for name in ("bin", "conda-meta", "etc/conda/activate.d", "etc/conda/env_vars.d"):
        (prefix / name).mkdir(parents=True)
    (prefix / "bin" / "python").symlink_to(sys.executable)
    (prefix / "bin" / "python3").symlink_to(sys.executable)
    values = {"FROM_FILE": "it's\n$(touch /tmp/x) 1", "BOTH": "file", "UNSET": "***unset***"}
    (prefix / "conda-meta" / "state").write_text(json.dumps({"env_vars": values}))
    package = prefix / "etc/conda/env_vars.d/package.json"
    package.write_text(json.dumps({"FROM_PACKAGE": "p", "BOTH": "package"}))
    (prefix / "etc/conda/activate.d/b.sh").write_text('export ACTIVATED="$NEVER_SET+$FROM_PACKAGE"\n')
    return prefix


def test_a_made_conda_environment_is_activated_without_conda(tmp_path: Path) -> None:
    """Its variables, and those of its packages; scripts that are not fit for set -u; its own Python alone."""
    prefix = made_prefix(tmp_path / "environments/conda-x.1" / "prefix")
    config = command(["python", "-c", PRINT_VARIABLES], environment=Environment("e", conda={"file": "e.yml"}))
    folder = install(job(tmp_path / "run", config), {})
    assert run_script(folder, {"HPCRUN_ENVIRONMENT": str(prefix.parent)}).rc == 0
    assert log(folder).splitlines() == [
        f"CONDA_PREFIX {str(prefix)!r}",
        f"FROM_FILE {values_of(prefix)['FROM_FILE']!r}",
        "FROM_PACKAGE 'p'",
        "BOTH 'file'",
        "UNSET None",
        "ACTIVATED '+p'",
        "PYTHONNOUSERSITE '1'",
    ]


def values_of(prefix: Path) -> dict[str, str]:
    values: dict[str, str] = json.loads((prefix / "conda-meta" / "state").read_text())["env_vars"]
    return values


def test_a_made_conda_environment_that_is_broken(tmp_path: Path) -> None:
    prefix = made_prefix(tmp_path / "a" / "prefix")
    config = command("true", environment=Environment("e", conda={"file": "e.yml"}))
    env = {"HPCRUN_ENVIRONMENT": str(prefix.parent)}
    (prefix / "conda-meta" / "state").write_text("{")
    said = failed_in_environment(job(tmp_path / "r1", config), env)
    assert said.startswith(f"the variables of the environment {prefix} cannot be read on ")
    (prefix / "bin" / "python").unlink()
    (prefix / "bin" / "python").symlink_to("/bin/false")
    said = failed_in_environment(job(tmp_path / "r2", config), env)
    assert said.startswith(f"the python of the environment {prefix} does not run on ")
    shutil.rmtree(prefix / "conda-meta")
    said = failed_in_environment(job(tmp_path / "r3", config), env)
    assert said.startswith(f"there is no conda environment at {prefix} on ")


def test_apptainer_that_is_not_there(tmp_path: Path) -> None:
    env = Environment("e", apptainer={"image": "/no/image.sif"})
    config = command("true", environment=env)
    site = local_site(apptainer={"executable": "no_apptainer_here"})
    assert "no program no_apptainer_here" in failed_in_environment(job(tmp_path / "a", config, site))
    site = local_site(apptainer={"executable": "true"})
    assert "there is no image /no/image.sif" in failed_in_environment(job(tmp_path / "b", config, site))


def test_a_clean_container_is_handed_what_the_run_needs(tmp_path: Path) -> None:
    box = tmp_path / "apptainer"
    box.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nenv | grep ^APPTAINERENV_ | sort\n')
    box.chmod(0o755)
    image = tmp_path / "image.sif"
    image.touch()
    env = Environment("e", apptainer={"image": str(image), "clean_environment": True, "binds": ["/a b"]})
    config = command(["prog", "a b"], environment=env, environment_variables={"MINE": "x y"})
    site = local_site(apptainer={"executable": str(box)}, environment_variables={"NCCL_DEBUG": "INFO"})
    folder = install(job(tmp_path / "run", config, site), {})
    run_script(folder, {"NOT_MINE": "1", "CUDA_VISIBLE_DEVICES": "0"})
    words, _, rest = log(folder).partition("APPTAINERENV_")
    assert words.splitlines() == [
        *("--quiet", "exec", "--bind", str(folder), "--pwd", str(folder / "code"), "--bind", "/a b"),
        *("--cleanenv", str(image), "prog", "a b"),
    ]
    handed = dict(line.removeprefix("APPTAINERENV_").split("=", 1) for line in rest.splitlines())
    assert handed["MINE"] == "x y"
    assert handed["NCCL_DEBUG"] == "INFO"
    assert handed["CUDA_VISIBLE_DEVICES"] == "0"
    assert handed["HPCRUN_RUN_ID"] == "test_20260131-120000_abcdefgh"
    assert "NOT_MINE" not in handed and "PYTHONPATH" not in handed


def test_a_clean_container_finds_what_the_run_brought_along(tmp_path: Path) -> None:
    box, image = played_box(tmp_path)
    env = Environment("e", apptainer={"image": str(image), "clean_environment": True})
    site = local_site(apptainer={"executable": str(box)})
    folder = install(job(tmp_path / "run", command(["prog"], environment=env), site, tracking=True), {})
    run_script(folder, {"PYTHONPATH": "/of/the/host"})
    assert f"APPTAINERENV_PYTHONPATH={folder}/lib" in log(folder).splitlines()


def played_box(folder: Path, name: str = "apptainer") -> tuple[Path, Path]:
    """A fake of Apptainer, which prints what it is given, and an empty image."""
    box, image = folder / name, folder / "image.sif"
    box.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@"\nenv | grep -E "^({name.upper()}ENV_|PYTHONNO)" | sort\n')
    box.chmod(0o755)
    image.touch()
    return box, image


def test_a_container_sees_the_folders_that_the_scheduler_chose(tmp_path: Path) -> None:
    box, image = played_box(tmp_path)
    config = command(["prog"], environment=Environment("e", apptainer={"image": str(image)}))
    made = job(tmp_path / "run", config, local_site(apptainer={"executable": str(box)}))
    folder = install(made, {})
    for name in ("pmix dir", "tmp dir"):
        (tmp_path / name).mkdir()
    chosen = {"PMIX_SERVER_TMPDIR": str(tmp_path / "pmix dir"), "TMPDIR": str(tmp_path / "tmp dir")}
    run_script(folder, chosen)
    binds = ["--bind", chosen["PMIX_SERVER_TMPDIR"], "--bind", chosen["TMPDIR"]]
    words = [
        "--quiet",
        "exec",
        *binds,
        "--bind",
        str(folder),
        "--pwd",
        str(folder / "code"),
        str(image),
        "prog",
    ]
    assert log(folder).splitlines() == [*words, "PYTHONNOUSERSITE=1"]


@pytest.mark.parametrize("named", ["/tmp", "/no/such/folder", "{}/with,comma", "relative"])
def test_a_folder_that_cannot_be_bound_is_left_out(named: str, tmp_path: Path) -> None:
    box, image = played_box(tmp_path)
    (tmp_path / "with,comma").mkdir()
    config = command(["prog"], environment=Environment("e", apptainer={"image": str(image)}))
    made = job(tmp_path / "run", config, local_site(apptainer={"executable": str(box)}))
    folder = install(made, {})
    run_script(folder, {"TMPDIR": named.format(tmp_path)})
    assert log(folder).splitlines().count("--bind") == 1


def test_what_a_user_has_installed_may_be_let_in(tmp_path: Path) -> None:
    box, image = played_box(tmp_path)
    environment = Environment(
        "e", apptainer={"image": str(image)}, environment_variables={"PYTHONNOUSERSITE": ""}
    )
    made = job(tmp_path / "run", command(["prog"], environment=environment),
               local_site(apptainer={"executable": str(box)}))  # fmt: skip
    folder = install(made, {})
    run_script(folder)
    assert log(folder).splitlines()[-1] == "PYTHONNOUSERSITE="


def test_singularity_has_names_of_its_own(tmp_path: Path) -> None:
    box, image = played_box(tmp_path, "singularity")
    environment = Environment("e", apptainer={"image": str(image), "clean_environment": True})
    made = job(tmp_path / "run", command(["prog"], environment=environment),
               local_site(apptainer={"executable": str(box)}))  # fmt: skip
    folder = install(made, {})
    handed = {
        "UCX_TLS": "tcp",
        "FI_PROVIDER": "cxi",
        "NCCL_DEBUG": "INFO",
        "PMI_RANK": "0",
        "TF_CONFIG": "{}",
    }
    run_script(folder, {**handed, "NOT_THIS": "1"})
    lines = log(folder).splitlines()
    assert {f"SINGULARITYENV_{name}={value}" for name, value in handed.items()} <= set(lines)
    assert not [line for line in lines if "NOT_THIS" in line]


def test_gpus_of_either_make_and_only_with_gpus(tmp_path: Path) -> None:
    box, image = played_box(tmp_path)
    environment = Environment("e", apptainer={"image": str(image)})
    site = local_site(apptainer={"executable": str(box)})
    for gpus, flag in ((1, "--rocm" if Path("/dev/kfd").exists() else "--nv"), (0, None)):
        config = command(["prog"], environment=environment, resources={"gpus_per_node": gpus})
        folder = install(job(tmp_path / f"run{gpus}", config, site), {})
        run_script(folder)
        assert [word for word in log(folder).splitlines() if word in ("--nv", "--rocm")] == [flag] * bool(
            flag
        )


def test_a_venv_that_does_not_run_in_its_image_is_found_out(tmp_path: Path) -> None:
    box, image = played_box(tmp_path)
    box.write_text("#!/bin/sh\nexit 255\n")
    environment = Environment("e", apptainer={"image": str(image)}, venv={"packages": ["numpy"]})
    made = job(tmp_path / "run", command("true", environment=environment),
               local_site(apptainer={"executable": str(box)}))  # fmt: skip
    message = failed_in_environment(made, {"HPCRUN_ENVIRONMENT": str(tmp_path)})
    assert message.startswith(f"the venv {tmp_path}/prefix does not run in {image} on ")
