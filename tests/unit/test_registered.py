"""Environments with names: registered in versions, saved and loaded, curated, and named in run.yaml."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Environment, ScriptRunConfig, Workspace, load_run_config
from hpcrun.engine.environment_files import published
from hpcrun.engine.prepare import prepare
from hpcrun.engine.registered import Registered
from hpcrun.errors import ConfigError, NotFoundError, UsageError
from tests.engine_help import source, workspace

REQUIREMENTS = "numpy\n-r more/other.txt\n"


def project(folder: Path) -> Path:
    """Requirements that name others, and a definition that copies a file."""
    (folder / "reqs/more").mkdir(parents=True)
    (folder / "reqs/all.txt").write_text(REQUIREMENTS)
    (folder / "reqs/more/other.txt").write_text("einops\n")
    (folder / "image.def").write_text("Bootstrap: docker\nFrom: debian:13\n%files\n  sub/a.txt /opt\n")
    (folder / "sub").mkdir()
    (folder / "sub/a.txt").write_text("a")
    return folder


def test_versions_are_numbered_and_the_same_content_keeps_its_own(tmp_path: Path) -> None:
    with workspace(tmp_path / "ws") as ws:
        first = Environment("torch", modules=["gcc/13"]).register(ws)
        second = Environment("torch", modules=["gcc/14"]).register(ws)
        again = Environment("torch", modules=["gcc/13"]).register(ws)
        assert [each.version for each in (first, second, again)] == ["1", "2", "1"]
        assert Environment.get(ws, "torch").modules == ["gcc/14"]
        assert Environment.get(ws, "torch", version=1) == first
        assert Environment.get(ws, "torch", version="latest").version == "2"
        assert second.register(ws).version == "2", "what was got back is the same content"
        listed = Environment.list(ws)
        assert listed["torch"].version == "2" and "AzureML-Minimal" in listed


def test_a_clone_is_its_own(tmp_path: Path) -> None:
    with workspace(tmp_path / "ws") as ws:
        environment = Environment("one", modules=["a"]).register(ws)
        environment.python.user_managed_dependencies = True
        clone = environment.clone("two")
        clone.modules.append("b")
        assert (clone.name, clone.version, clone.python.user_managed_dependencies) == ("two", None, True)
        assert (environment.name, environment.version, environment.modules) == ("one", "1", ["a"])


def test_the_files_that_it_names_are_registered_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project(tmp_path / "project")
    monkeypatch.chdir(folder)
    with workspace(tmp_path / "ws") as ws:
        venv = Environment.from_pip_requirements("venv", "reqs/all.txt").register(ws)
        image = Environment.from_apptainer_definition("image", "image.def").register(ws)
        (folder / "reqs/more/other.txt").write_text("einops==0.8\n")
        changed = Environment.from_pip_requirements("venv", "reqs/all.txt").register(ws)
        assert (venv.version, changed.version) == ("1", "2")
        for path in (*folder.rglob("*.txt"), folder / "image.def"):
            path.unlink()

        venv = Environment.get(ws, "venv", version="1")
        assert venv.venv is not None and venv.venv.requirements is not None
        kept = Path(venv.venv.requirements)
        assert kept.read_text() == REQUIREMENTS
        assert (kept.parent / "more/other.txt").read_text() == "einops\n"
        again = Environment.get(ws, "image")
        assert again.apptainer is not None and again.apptainer.definition is not None
        assert (Path(again.apptainer.definition).parent / "sub/a.txt").read_text() == "a"
        assert again == image


def test_what_names_a_file_that_is_not_there_is_not_registered(tmp_path: Path) -> None:
    with workspace(tmp_path / "ws") as ws:
        with pytest.raises(ConfigError, match=r"none\.txt"):
            Environment.from_pip_requirements("venv", tmp_path / "none.txt").register(ws)
        assert "venv" not in Environment.list(ws)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("AzureML-mine", "is taken"),
        ("Microsoft-mine", "is taken"),
        ("hpcrun-mine", "is taken"),
        ("../up", "not a name"),
        ("a/b", "not a name"),
        (".hidden", "not a name"),
        ("a:2", "not a name"),
    ],
)
def test_a_name_that_cannot_be(name: str, said: str, tmp_path: Path) -> None:
    with workspace(tmp_path / "ws") as ws, pytest.raises(UsageError, match=said):
        Environment(name).register(ws)


@pytest.mark.parametrize("name", ["hpcrun-minimal", "hpcrun-pytorch", "hpcrun-mpi4py", "AzureML-Minimal"])
def test_what_comes_with_hpcrun(name: str, tmp_path: Path) -> None:
    with workspace(tmp_path / "ws") as ws:
        environment = Environment.get(ws, name)
        assert (environment.name, environment.version) == (name, None)
        with pytest.raises(NotFoundError, match="has no versions"):
            Environment.get(ws, name, version="2")


def test_one_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    with workspace(tmp_path / "ws") as ws:
        Environment("torch").register(ws)
        with pytest.raises(NotFoundError, match=r"no environment is called 'troch'") as none:
            Environment.get(ws, "troch")
        assert none.value.hint is not None and "hpcrun-minimal, hpcrun-mpi4py" in none.value.hint
        assert "torch" in none.value.hint
        with pytest.raises(NotFoundError, match="the environment 'torch' has no version 7") as version:
            Environment.get(ws, "torch", version="7")
        assert version.value.hint == "There are the versions 1."


REGISTER = """
import sys
from hpcrun import Environment, Workspace
ws = Workspace(sys.argv[1])
sys.stdin.readline()
for content in ("a", "b", "c"):
    print(Environment("torch", modules=[content]).register(ws).version)
"""


def test_many_at_once_register_each_content_once(tmp_path: Path) -> None:
    Workspace(tmp_path).close()
    argv = [sys.executable, "-c", REGISTER, str(tmp_path)]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) for _ in range(6)]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = {tuple(process.communicate(timeout=90)[0].split()) for process in started}
    assert len(answers) == 1 and sorted(*answers) == ["1", "2", "3"]
    folder = tmp_path / ".hpcrun/registered/torch"
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "3"]


def test_a_number_that_another_was_quicker_to_take(tmp_path: Path) -> None:
    contents = {"environment.yaml": b"name: a\n"}
    assert published(contents, tmp_path / "a", "1")
    assert not published({"environment.yaml": b"name: b\n"}, tmp_path / "a", "1")
    assert (tmp_path / "a/1/environment.yaml").read_bytes() == b"name: a\n"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["1"]


def test_registered_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    old = os.umask(0)
    try:
        with workspace(tmp_path / "ws") as ws:
            Environment.from_pip_requirements("venv", folder / "reqs/all.txt").register(ws)
            top = ws.history.paths.registered
            modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (top, *top.rglob("*"))}
    finally:
        os.umask(old)
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}


def test_saved_and_loaded(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    environment = Environment.from_docker_image("both", "debian:13", pip_requirements=folder / "reqs/all.txt")
    environment.environment_variables = {"MODE": "fast"}
    environment.save_to_directory(tmp_path / "saved")
    with pytest.raises(UsageError, match="holds something"):
        environment.save_to_directory(tmp_path / "saved")
    environment.save_to_directory(tmp_path / "saved", overwrite=True)
    (tmp_path / "saved").rename(tmp_path / "moved")
    loaded = Environment.load_from_directory(tmp_path / "moved")
    assert loaded.name == "both" and loaded.environment_variables == {"MODE": "fast"}
    assert loaded.apptainer is not None and loaded.apptainer.image == "docker://debian:13"
    assert loaded.venv is not None and loaded.venv.requirements is not None
    assert Path(loaded.venv.requirements).read_text() == REQUIREMENTS
    with pytest.raises(NotFoundError, match=r"there is no environment\.yaml"):
        Environment.load_from_directory(tmp_path / "saved")


RUN = "script: train.py\nenvironment: {}\n"


@pytest.mark.parametrize(
    "text", ["torch", "torch:latest", "{name: torch, version: latest}", "{name: torch, version: 2}"]
)
def test_run_yaml_names_one(text: str, tmp_path: Path) -> None:
    folder = source(tmp_path / "project", train_py="")
    (folder / "run.yaml").write_text(RUN.format(text))
    with workspace(tmp_path / "ws") as ws:
        for modules in (["gcc/13"], ["gcc/14"]):
            Environment("torch", modules=modules).register(ws)
        plan = prepare(load_run_config(folder / "run.yaml"), ws.history.paths, ws.targets)
        assert plan.config.environment.modules == ["gcc/14"]
        # What is written down is what was run, whatever is registered later.
        assert 'version: "2"' in plan.config_text and 'version: "2"' in plan.asked_text
        assert "gcc/14" in plan.config_text
        named = load_run_config(folder / "run.yaml", overrides=["environment=torch:1"])
        assert prepare(named, ws.history.paths, ws.targets).config.environment.modules == ["gcc/13"]


def test_run_yaml_names_one_that_is_not_there(tmp_path: Path) -> None:
    folder = source(tmp_path / "project", train_py="")
    (folder / "run.yaml").write_text(RUN.format("torhc"))
    with workspace(tmp_path / "ws") as ws:
        with pytest.raises(ConfigError) as caught:
            prepare(load_run_config(folder / "run.yaml"), ws.history.paths, ws.targets)
        said = str(caught.value.problems[0])
        assert f"{folder}/run.yaml:2:14: environment: no environment is called 'torhc'" in said
        assert "There are: AzureML-Minimal, hpcrun-minimal" in said


def test_a_text_names_one_in_python_too(tmp_path: Path) -> None:
    config = ScriptRunConfig(".", "train.py", environment="torch")
    assert config.environment.is_reference
    assert not Environment("torch").is_reference
    with workspace(tmp_path / "ws") as ws:
        registered = Registered(ws.history.paths.registered)
        Environment("torch").register(ws)
        assert registered.resolve(config).environment.version == "1"
        assert config.environment.version == "latest", "what was given stays as it was"


def test_an_environment_is_built_for_its_own_sake(tmp_path: Path) -> None:
    with workspace(tmp_path / "ws") as ws:
        empty = Environment("empty", venv={"python": sys.executable}).register(ws)
        folder = Path(Environment("empty", version="latest").build(ws))
        assert (folder / "prefix/bin/python").exists()
        assert empty.build(ws, target="local") == str(folder), "it is there"
        assert Environment("plain").build(ws) == ""


def test_check_says_that_there_is_no_such_environment(tmp_path: Path) -> None:
    folder = source(tmp_path / "project", train_py="")
    (folder / "run.yaml").write_text(RUN.format("torhc"))
    with workspace(tmp_path / "ws") as ws:
        report = ws.check(load_run_config(folder / "run.yaml"))
        assert not report.ok
        messages = [finding.message for finding in report.findings if finding.level == "problem"]
        assert messages == ["no environment is called 'torhc'"]


PAGE = (Path(__file__).resolve().parents[2] / "docs" / "environments-names.md").read_text()


def test_the_page_on_names_is_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (text,) = re.findall(r"^```yaml run.yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    source(tmp_path, train_py="", run_yaml="")
    (tmp_path / "requirements.txt").write_text("einops\n")
    (tmp_path / "run.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {}
    exec(compile(code, "environments-names.md", "exec"), given)
    assert capsys.readouterr().out == "science 1\n"
    with given["ws"] as ws:
        plan = prepare(load_run_config(tmp_path / "run.yaml"), ws.history.paths, ws.targets)
        assert plan.config.environment == given["config"].environment
        for name in re.findall(r"`(hpcrun-\w+|AzureML-\w+)`", PAGE):
            assert name in Environment.list(ws)
    for name in re.findall(r"`(?:Environment|env)\.(\w+)\(", PAGE):
        assert hasattr(Environment, name), name
