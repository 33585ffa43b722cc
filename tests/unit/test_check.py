"""``hpcrun check``: everything that is wrong, at once, with its place; and nothing changed by it."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun import ScriptRunConfig, Workspace
from hpcrun.check.findings import Code
from hpcrun.check.scripts import bash_fault, crlf, first_word, interpreter, python_fault
from hpcrun.engine import check_here
from tests.cli_help import Project, document, hpcrun, make_project, refused, typed

SITE = """\
default_partition: gpu
partitions:
  gpu: {max_time: 2d, max_nodes: 4, gpus_per_node: 4, gpu_types: [a100]}
  long: {max_time: 10d, max_nodes: 2}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield from make_project(folder)


@pytest.fixture
def cluster_file(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site ``there``, on a machine that has none of Slurm's commands."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("bash", "git", "env"):
        (programs / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(programs))
    folder = project.folder / "site_configs"
    folder.mkdir()
    (folder / "there.yaml").write_text(SITE)
    return folder / "there.yaml"


def findings(*args: str, code: int = 0) -> list[dict[str, Any]]:
    """What is found, but for notes."""
    report = document("check", *args, code=code)
    assert report["ok"] == (code == 0)
    return [each for each in report["findings"] if each["level"] != "note"]


def the_one(*args: str, code: int = 3) -> dict[str, Any]:
    found = findings(*args, code=code)
    assert len(found) == 1, found
    return found[0]


def notes(*args: str) -> list[str]:
    return [each["message"] for each in document("check", *args)["findings"] if each["level"] == "note"]


def write(project: Project, name: str, text: str | bytes, mode: int = 0o644) -> None:
    path = project.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)


def test_nothing_wrong(project: Project) -> None:
    """No workspace is made, no snapshot taken, no file written."""
    name = project.script("print(1)")
    before = sorted(project.folder.rglob("*"))
    assert typed("check", name) == "local: no problems, no warnings\n"
    assert sorted(project.folder.rglob("*")) == before


def test_a_workspace_stays_as_it_is(project: Project) -> None:
    name = project.config("true")
    typed("submit", name, "--wait")
    write(project, "new.txt", "new")

    def stored() -> list[Path]:
        return sorted((project.folder / ".hpcrun" / "snapshots.git").rglob("*"))

    before, runs = stored(), project.runs
    assert findings(name) == []
    assert (stored(), project.runs) == (before, runs)


def test_everything_at_once_and_where_it_stands(project: Project, cluster_file: Path) -> None:
    """A limit, the script, and the rest: what the first problem is does not hide the others."""
    write(project, "train.py", "def f(:\n    pass\n")
    write(
        project,
        "run.yaml",
        "script: train.py\ncompute_target: there:gpu\n"
        "resources:\n  time: 3d\n  nodes: 9\n  gpus_per_node: a100:5\n",
    )
    found = findings("run.yaml", code=3)
    assert [(each["code"], each["where"], each["path"]) for each in found] == [
        ("Syntax", "run.yaml:1:9", "script"),
        ("Time", "run.yaml:4:9", "resources.time"),
        ("Nodes", "run.yaml:5:10", "resources.nodes"),
        ("GPUs", "run.yaml:6:18", "resources.gpus_per_node"),
    ]
    shown = typed("check", "run.yaml", code=3)
    for each in found:
        assert f"problem  {each['code']}: {each['where']}: {each['path']}: {each['message']}\n" in shown
        assert not each["next"] or f"next: {each['next']}\n" in shown
    assert shown.endswith("there:gpu: 4 problems, no warnings\n")


def test_over_the_described_time(project: Project, cluster_file: Path) -> None:
    """Both numbers, and the partition that would take it."""
    found = the_one(project.config("true"), "-t", "there", "--time", "3d")
    assert (found["code"], found["where"]) == ("Time", "command line")
    assert "3-00:00:00" in found["message"] and "2-00:00:00" in found["message"]
    assert "a partition that takes it: long" in found["next"]
    assert findings(project.config("true"), "-t", "there:long", "--time", "3d") == []


def test_a_qos_may_lift_a_described_limit(project: Project, cluster_file: Path) -> None:
    """Only Slurm knows which does: no more than a warning."""
    found = the_one(project.config("true"), "-t", "there", "--time", "3d", "--qos", "long", code=0)
    assert (found["level"], found["code"]) == ("warning", "Time")


def test_a_limit_that_the_sites_own_default_breaks(project: Project, cluster_file: Path) -> None:
    """The place is in the site's file."""
    cluster_file.write_text(SITE + "defaults:\n  time: 30d\n")
    found = the_one(project.config("true"), "-t", "there")
    assert found["where"].endswith("there.yaml:6:9") and found["path"] == "resources.time"


def test_gpus_in_a_partition_that_nobody_says_has_any(project: Project, cluster_file: Path) -> None:
    found = the_one(project.config("true"), "-t", "there:long", "--gpus-per-node", "1", code=0)
    assert (found["level"], found["code"], found["next"]) == ("warning", "GPUs", "Partitions with GPUs: gpu")


def test_a_partition_that_is_not_there(project: Project, cluster_file: Path) -> None:
    found = the_one(project.config("true"), "-t", "there:gpus")
    assert (found["code"], found["path"]) == ("Partition", "compute_target")
    assert "did you mean gpu?" in found["message"]


def test_only_the_description_was_checked(project: Project, cluster_file: Path) -> None:
    said = notes(project.config("true"), "-t", "there")
    assert any("only what there's file says was checked" in each for each in said)


def test_a_site_that_is_not_there(project: Project) -> None:
    """The rest is looked at all the same."""
    write(project, "train.sh", "if true; then\n")
    name = "run.yaml"
    write(project, name, "script: train.sh\ncompute_target: locl\n")
    found = findings(name, code=3)
    assert [each["code"] for each in found] == ["Target", "Syntax"]
    assert found[0]["where"] == "run.yaml:2:17" and "did you mean local?" in found[0]["message"]


def test_a_configuration_that_cannot_be_read(project: Project) -> None:
    """The same problems as submit tells, in the same document as every other finding."""
    write(project, "run.yaml", "comand: true\nresources: {time: soon}\n")
    found = findings("run.yaml", code=3)
    assert {each["code"] for each in found} == {"Config"}
    assert {each["where"] for each in found} >= {"run.yaml:1:1", "run.yaml:2:19"}
    assert "did you mean run.yaml?" in refused("check", "rn.yaml", code=4)


def test_more_nodes_than_this_machine(project: Project) -> None:
    assert the_one(project.config("true"), "--nodes", "2")["code"] == "Nodes"


# -- scripts ----------------------------------------------------------------------


def test_a_script_that_is_not_there(project: Project) -> None:
    write(project, "train.py", "")
    write(project, "run.yaml", "script: trian.py\n")
    found = the_one("run.yaml")
    assert (found["code"], found["where"], found["next"]) == (
        *("Script", "run.yaml:1:9", "did you mean train.py?"),
    )


def test_no_source_directory(project: Project) -> None:
    write(project, "run.yaml", "command: 'true'\nsource_directory: nowhere\n")
    assert the_one("run.yaml")["code"] == "Source"


def test_a_python_script_with_a_syntax_error(project: Project) -> None:
    """File, line and the line itself; a warning where another Python may run it."""
    name = project.script("x = 1\nprint 'two'\n")
    found = the_one(name)
    assert found["code"] == "Syntax" and found["message"].startswith("train.py:2: ")
    assert found["details"] == ["print 'two'"]
    other = project.script(
        "x = 1\nprint 'two'\n", environment={"apptainer": {"image": str(project.folder / "train.py")}}
    )
    found = next(each for each in findings(other, code=3) if each["code"] == "Syntax")
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert found["level"] == "warning" and f"with Python {here} here" in found["message"]


def test_a_script_is_compiled_and_not_run(project: Project) -> None:
    name = project.script(f"open({str(project.folder / 'ran')!r}, 'w')\nx = '\\d'\n")
    assert findings(name) == []
    assert not (project.folder / "ran").exists()


def test_a_bash_script_with_a_syntax_error(project: Project) -> None:
    write(project, "train.sh", "echo one\ndone\n")
    write(project, "run.yaml", "script: train.sh\n")
    found = the_one("run.yaml")
    assert found["code"] == "Syntax" and found["message"].startswith("train.sh:2: syntax error")
    assert found["details"] == ["done"]


def test_a_command_with_a_syntax_error(project: Project) -> None:
    found = the_one(project.config("if true; then echo"))
    assert (found["code"], found["path"]) == ("Syntax", "command")


def test_a_bash_script_with_windows_line_ends(project: Project) -> None:
    write(project, "train.sh", "echo one\r\necho two\r\n")
    write(project, "run.yaml", "script: train.sh\n")
    found = the_one("run.yaml")
    assert found["code"] == "Script" and "CRLF" in found["message"]


@pytest.mark.parametrize(
    ("content", "mode", "level", "words"),
    [
        (b"#!/bin/bash\ntrue\n", 0o644, "problem", "not executable"),
        (b"#!/bin/bash\r\ntrue\r\n", 0o755, "problem", "CRLF"),
        (b"true\n", 0o755, "warning", "no #! line"),
        (b"#!/bin/bash\ntrue\n", 0o755, "", ""),
        (b"\x7fELF\x02", 0o755, "", ""),
    ],
)
@pytest.mark.parametrize("how", ["script", "command", "list"])
def test_a_file_that_is_executed(
    project: Project, content: bytes, mode: int, level: str, words: str, how: str
) -> None:
    """As a script, as the first word of a command, and as that of a list of words."""
    write(project, "tool", content, mode)
    config = (
        {"script": "tool"}
        if how == "script"
        else {"command": "A=1 ./tool x" if how == "command" else ["./tool"]}
    )
    write(project, "run.yaml", json.dumps(config))
    found = findings("run.yaml", code=3 if level == "problem" else 0)
    assert [each["level"] for each in found] == ([level] if level else [])
    assert all(words in each["message"] for each in found)


def test_a_command_whose_file_is_not_there(project: Project) -> None:
    assert "there is no ./tool" in the_one(project.config("./tool"))["message"]
    built = project.config("./tool", environment={"setup": "make tool"})
    assert the_one(built, code=0)["level"] == "warning"
    write(project, "tool-of-mine", "#!/bin/sh\n", 0o755)
    found = the_one(project.config("tool-of-mine"), code=0)
    assert (found["level"], found["next"]) == ("warning", "Write ./tool-of-mine")


# -- environments -----------------------------------------------------------------


def conda(tmp_path: Path, *names: str) -> Path:
    root = tmp_path / "conda"
    for name in names:
        (root / "envs" / name / "conda-meta").mkdir(parents=True)
    return root


def test_a_conda_environment_that_is_not_there(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = conda(tmp_path, "torch", "jax")
    monkeypatch.setenv("CONDA_EXE", str(root / "bin" / "conda"))
    assert findings(project.config("true", environment={"conda": {"name": "torch"}})) == []
    found = the_one(project.config("true", environment={"conda": {"name": "torhc"}}))
    assert (found["code"], found["path"]) == ("Environment", "environment.conda.name")
    assert found["next"] == "did you mean torch?"
    Path("~/.condarc").expanduser().write_text("envs_dirs: [/elsewhere]\n")
    assert the_one("run.yaml", code=0)["level"] == "warning"
    prefix = {"conda": {"prefix": str(root / "envs" / "tf")}}
    assert "no conda environment at" in the_one(project.config("true", environment=prefix))["message"]
    shutil.rmtree(root)
    assert (
        "no conda at" in the_one(project.config("true", environment={"conda": {"name": "torch"}}))["message"]
    )


def test_nothing_says_where_conda_lies(project: Project) -> None:
    found = the_one(project.config("true", environment={"conda": {"name": "torch"}}))
    assert (found["code"], found["path"]) == ("Environment", "environment.conda")


def test_an_image_that_is_not_there(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "apptainer").write_text("#!/bin/sh\n")  # a fake; it is only looked for, never run
    (programs / "apptainer").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    name = project.config("true", environment={"apptainer": {"image": "x.sif"}})
    found = the_one(name)
    assert (found["code"], found["path"]) == ("Environment", "environment.apptainer.image")
    write(project, "x.sif", "")  # from the run's own copy of the source
    assert findings(name) == []
    remote = project.config("true", environment={"apptainer": {"image": "docker://python:3"}})
    assert findings(remote) == [], "it is pulled when it is wanted"


def test_no_apptainer_here(project: Project, cluster_file: Path) -> None:
    write(project, "x.sif", "")
    name = project.config("true", environment={"apptainer": {"image": "x.sif"}})
    assert "no program apptainer" in the_one(name)["message"]
    brought = project.config(
        "true", environment={"apptainer": {"image": "x.sif"}, "modules": ["apptainer/1"]}
    )
    assert findings(brought) == []
    assert "modules are not looked for: apptainer/1" in notes(brought)


def test_an_interpreter_that_is_not_there(project: Project) -> None:
    environment = {"python": {"interpreter_path": "/opt/no/python"}}
    found = the_one(project.config("true", environment=environment))
    assert (found["level"], found["path"]) == ("problem", "environment.python.interpreter_path")


# -- the snapshot -----------------------------------------------------------------


def test_a_snapshot_that_is_too_big(project: Project) -> None:
    """The ten biggest files, the biggest first; what is ignored does not count."""
    for number in range(12):
        write(project, f"data/{number:02}.bin", "")
        os.truncate(project.folder / f"data/{number:02}.bin", (30 + number) * 2**20)  # it is all holes
    name = project.config("true")
    found = the_one(name)
    assert found["code"] == "Snapshot" and "the limit is 300.0 MiB" in found["message"]
    files = [line.split()[-1] for line in found["details"] if ".bin" in line]
    assert files == [f"data/{number:02}.bin" for number in range(11, 1, -1)]
    assert ".hpcrunignore" in found["next"]
    write(project, ".hpcrunignore", "data/\n")
    assert findings(name) == []


def test_what_is_left_out_of_the_snapshot(project: Project) -> None:
    (project.folder / "outputs").mkdir()
    assert notes(project.config("true")) == ["outputs/ at the top of the source is left out"]


# -- this machine -----------------------------------------------------------------


def test_more_than_this_machine_has(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_here, "_gpus_here", lambda: 1)
    name = project.config("true", resources={"cpus_per_task": 5000, "gpus_per_node": 3})
    found = findings(name)
    assert [(each["level"], each["code"]) for each in found] == [("warning", "CPUs"), ("warning", "GPUs")]
    assert "5000 CPUs" in found[0]["message"] and "this machine has 1 of them" in found[1]["message"]


def test_the_gpus_of_a_machine(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert check_here._gpus_here(tmp_path) == 2
    (tmp_path / "kfd").touch()
    assert check_here._gpus_here(tmp_path) is None


def test_programs_that_are_missing(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    mpi = {"type": "mpi", "process_count_per_node": 2}
    found = findings(project.config("true", distributed_job_config=mpi), code=3)
    said = [each["message"] for each in found if each["code"] == "Program"]
    assert [word for each in said for word in ("git", "bash", "mpirun") if f"no {word} " in each] == [
        *("git", "bash", "mpirun"),
    ]


# -- the history ------------------------------------------------------------------


def test_a_run_to_resume_from_that_is_not_there(project: Project) -> None:
    name = project.config("true", resume_from="nosuchrun")
    assert the_one(name)["code"] == "Resume"
    typed("submit", project.config("true", "first.yaml"), "--wait")
    found = the_one(name)
    assert (found["code"], found["path"], found["where"]) == ("Resume", "resume_from", "run.yaml:1:57")


def test_an_archived_experiment(project: Project) -> None:
    name = project.config("true")
    typed("submit", name, "--wait")
    typed("archive", "--experiment", "exp")
    found = the_one(name)
    assert found["code"] == "Experiment" and "hpcrun restore" in found["next"]


def test_a_template_that_does_not_render(project: Project) -> None:
    typed("init")
    write(project, ".hpcrun/templates/local.sh.j2", "{% if %}\n")
    assert the_one(project.config("true"))["code"] == "Template"


# -- Python, and submit -----------------------------------------------------------


def test_from_python(project: Project) -> None:
    write(project, "train.py", "x = (\n")
    with Workspace(project.folder) as workspace:
        report = workspace.check(ScriptRunConfig(project.folder, "train.py"))
        assert (report.ok, report.target, report.start) == (False, "local", None)
        (found,) = report.of("problem")
        assert (found.code, found.where, found.details) == ("Syntax", "Python", ("x = (",))
        write(project, "train.py", "x = 1\n")
        assert workspace.check(ScriptRunConfig(project.folder, "train.py")).ok
        assert not workspace.runs()


def test_submit_warns_and_does_not_refuse(project: Project, cluster_file: Path) -> None:
    """Over what the site's file says: on stderr, and the script is as it would be."""
    name = project.config("true", resources={"time": "3d"})
    result = hpcrun("submit", name, "-t", "there", "--dry-run")
    assert result.exit_code == 0 and "--time=3-00:00:00" in result.stdout.replace('"', "")
    assert "warning: 3-00:00:00 is more than partition gpu allows: 2-00:00:00" in result.stderr
    assert "hpcrun check" in result.stderr
    assert hpcrun("submit", name, "-t", "there:long", "--dry-run").stderr == ""


# -- texts ------------------------------------------------------------------------


@pytest.mark.parametrize("source", [b"return 1\n", b"a = 1\0", b"\xff\n", b"x = (\n"])
def test_no_python_sources(source: bytes) -> None:
    fault = python_fault(source)
    assert fault is not None and fault.message and fault.line <= 1


@pytest.mark.parametrize(
    "source", [b"", "é = 1\n".encode(), b"# coding: latin-1\nx = '\xe9'\n", b"x = 1\r\n"]
)
def test_python_sources(source: bytes) -> None:
    assert python_fault(source) is None


def test_what_bash_says() -> None:
    fault = bash_fault("bash: line 2: syntax error near `x'\nbash: line 2: `x'\n", b"one\n  two\n")
    assert fault is not None and (fault.line, fault.message, fault.text) == (
        2,
        "syntax error near `x'",
        "two",
    )
    assert bash_fault("something else", b"") is None


@pytest.mark.parametrize(
    ("source", "program"),
    [
        (b"#!/bin/sh -e\n", "/bin/sh"),
        (b"#! /usr/bin/env python\n", "/usr/bin/env"),
        (b"x", None),
        (b"#!", None),
    ],
)
def test_the_first_line(source: bytes, program: str | None) -> None:
    assert interpreter(source) == program
    assert not crlf(source) and crlf(b"#!/bin/sh\r\nx\n")


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("A=1 B='x y' ./run --x", "./run"),
        (["a b", "c"], "a b"),
        ("echo 'open", "echo"),
        ("'open", ""),
        ("./a; ./b", "./a"),
        ("./a&&./b | c", "./a"),
        ("(./a)", ""),
        ("for x in *; do ./a; done", "for"),
        ("$HOME/bin/run", ""),
        ("./run-*.sh", ""),
        ("# nothing", ""),
    ],
)
def test_the_first_word(command: str | list[str], word: str) -> None:
    assert first_word(command) == word


@given(st.text(), st.binary())
def test_any_text_is_taken(text: str, data: bytes) -> None:
    """What is wrong with a script is found out, whatever is in it."""
    first_word(text)
    python_fault(data)
    interpreter(data)
    bash_fault(text, data)


def test_every_word_is_documented() -> None:
    """The words of findings are for programs to go by: the page has them all, and no others."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text()
    section = page.partition("\n## hpcrun check")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE)
    assert {word for row in rows for word in re.findall(r"`(\w+)`", row)} == set(get_args(Code))
