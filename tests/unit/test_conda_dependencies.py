"""CondaDependencies as Azure ML has it, and the environment's conda section, which is the truth."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path

import pytest

from hpcrun import CondaDependencies, Environment, ScriptRunConfig
from hpcrun.config.load import dump_run_config, read_run_config
from hpcrun.errors import ConfigError, NotFoundError

HERE = "{}.{}".format(*sys.version_info[:2])


def test_create() -> None:
    made = CondaDependencies.create(
        pip_indexurl="https://example.org/simple",
        pip_packages=["einops", "azureml-defaults"],
        conda_packages=["scikit-learn", "numpy=1.26"],
        python_version="3.10",
        pin_sdk_version=False,
    )
    assert made.conda_packages == ["python=3.10", "scikit-learn", "numpy=1.26"]
    assert made.pip_packages == ["einops", "azureml-defaults"]
    assert made.pip_options == ["--index-url https://example.org/simple"]
    assert CondaDependencies.create().get_python_version() == HERE


def test_what_was_said_last_holds() -> None:
    made = CondaDependencies.create(conda_packages=["numpy=1.0"], pip_packages=["My_Pkg==1", "b"])
    made.add_pip_package("my-pkg>=2")
    assert made.pip_packages == ["b", "my-pkg>=2"]
    made.add_conda_package("conda-forge::numpy>=2")
    made.add_conda_package("python=3.12")
    assert made.conda_packages == ["python=3.12", "conda-forge::numpy>=2"]
    made.set_pip_option("--extra-index-url https://a")
    made.set_pip_option("--extra-index-url=https://b")
    assert made.pip_options == ["--extra-index-url=https://b"]
    made.remove_pip_option("--extra-index-url")
    made.remove_pip_package("b")
    made.remove_conda_package("numpy")
    made.set_python_version("3.9")
    for channel in ("a", "b", "a"):
        made.add_channel(channel)
    made.remove_channel("b")
    assert made.as_dict() == {
        "channels": ["a"],
        "dependencies": ["python=3.9", "pip", {"pip": ["my-pkg>=2"]}],
    }
    made.set_pip_requirements(["--no-deps", "x"])
    assert (made.pip_options, made.pip_packages) == (["--no-deps"], ["x"])
    with pytest.raises(ConfigError, match="Python cannot be removed"):
        made.remove_conda_package("python=3.9")


def test_the_environment_says_the_same() -> None:
    """Given to an environment, taken from it and changed; copies are on their own."""
    env = Environment("science")
    env.python.conda_dependencies.add_pip_package("x")
    env.python.conda_dependencies.add_conda_package("numpy")
    assert env.conda is not None
    assert (env.conda.pip_packages, env.conda.conda_packages) == (["x"], ["numpy"])
    given = CondaDependencies.create(conda_packages=["scipy"], python_version="3.11")
    env.python.conda_dependencies = given
    assert (env.conda.python_version, env.conda.conda_packages) == ("3.11", ["scipy"])
    assert env.conda.pip_packages == []
    given.add_channel("conda-forge")
    assert env.conda.channels == ["conda-forge"]
    assert env.python.conda_dependencies == given
    for other in (copy.deepcopy(env), env.model_copy(deep=True), pickle.loads(pickle.dumps(env))):  # noqa: S301
        assert other == env
        other.python.conda_dependencies.add_pip_package("only-here")
        assert other != env
        assert other.conda is not None and other.conda.pip_packages == ["only-here"]
        assert env.conda.pip_packages == []
    text = dump_run_config(ScriptRunConfig(".", script="a.py", environment=env))
    assert "dependencies" not in text
    assert read_run_config(text, "run.yaml").environment == env


def test_what_cannot_be_is_refused_and_changes_nothing() -> None:
    env = Environment("e", conda={"conda_packages": ["numpy"]})
    with pytest.raises(ConfigError, match=r"environment\.conda\.python_version"):
        env.python.conda_dependencies.set_python_version("three")
    with pytest.raises(ConfigError, match=r"environment\.conda\.conda_packages\.1"):
        env.python.conda_dependencies.add_conda_package("--force")
    assert env == Environment("e", conda={"conda_packages": ["numpy"]})
    there = Environment.from_existing_conda_environment("mine", "torch")
    assert there.conda is not None and there.conda.name == "torch"
    with pytest.raises(ConfigError, match="the conda environment torch exists already"):
        there.python.conda_dependencies.add_pip_package("x")


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = CondaDependencies.create(pip_packages=["x"], pip_indexurl="https://e.org", python_version="3.10")
    made.add_channel("conda-forge")
    made.variables = {"A": "1"}
    assert made.save() == "conda_dependencies.yml"
    assert CondaDependencies("conda_dependencies.yml") == made
    assert made.serialize_to_string() == Path("conda_dependencies.yml").read_text()
    assert made.save_to_file(tmp_path / "sub", "env/e.yml") == "env/e.yml"
    env = Environment.from_conda_specification("e", "sub/env/e.yml")
    assert env.conda is not None and env.conda.file == str(tmp_path / "sub/env/e.yml")
    env.python.conda_dependencies.add_pip_package("y")
    assert env.conda is not None and env.conda.file is None
    assert env.conda.pip_packages == ["x", "y"]
    assert env.environment_variables == {"A": "1"}
    with pytest.raises(NotFoundError, match=r"no such file: gone\.yml"):
        Environment.from_conda_specification("e", "gone.yml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "e.yml:1:5: this is no YAML"),
        ("dependencies: x", "e.yml: expected dependencies:, a list"),
        ("dependencies: [a]\nnames: x", "e.yml: unknown key names"),
        ("dependencies: [[a]]", "e.yml: dependencies: expected a package or pip:, found"),
        ("dependencies: &a [x]\nchannels: *a", "e.yml: too large, or with aliases"),
    ],
)
def test_a_file_that_is_none(text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("e.yml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        CondaDependencies("e.yml")
    assert str(caught.value).startswith(said)
