"""What is done with a run that was found: ``tag``, ``open``, ``rerun``, ``diff``."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import cli_help
from tests.cli_help import Project, document, on_terminal, refused, typed

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    yield from cli_help.make_project(tmp_path)


def test_tag(project: Project) -> None:
    typed("submit", project.config("true", tags={"a": "1", "b": "2"}), "--wait")
    assert typed("tag", "@-1") == "a=1\nb=2\n"
    assert typed("tag", "@-1", "a=x=y", "c=", "--remove", "b") == "a=x=y\nc=\n"
    assert project.record()["tags"] == {"a": "x=y", "c": ""}
    assert [run["id"] for run in document("ls", "--tag", "a=x=y")["runs"]] == project.runs
    assert document("tag", "@-1", "d=4")["tags"] == {"a": "x=y", "c": "", "d": "4"}


def test_tags_change_all_together_or_not_at_all(project: Project) -> None:
    typed("submit", project.config("true", tags={"a": "1"}), "--wait")
    error = refused("tag", "@-1", "b=2", "--remove", "nothing", code=4)
    assert "has no tag 'nothing'" in error and "Its tags: a" in error
    assert "both set and taken away" in refused("tag", "@-1", "a=2", "--remove", "a", code=2)
    assert "expected KEY=VALUE" in refused("tag", "@-1", "b=2", "word", code=2)
    assert project.record()["tags"] == {"a": "1"}


def test_name_and_description(project: Project) -> None:
    typed("submit", project.config("true"), "--description", "first\nsecond", "--wait")
    assert "description first\n            second\n" in typed("show", "@-1")
    typed("tag", "@-1", "a=1", "--name", "one", "--description", "new")
    record = project.record()
    assert (record["display_name"], record["description"], record["tags"]) == ("one", "new", {"a": "1"})
    assert "not a name to display" in refused("tag", "one", "b=2", "--name", "x\ny", code=2)
    assert "not a description" in refused("tag", "one", "b=2", "--description", "x" * 5001, code=2)
    assert "has no tag" in refused("tag", "one", "--description", "other", "--remove", "b", code=4)
    assert project.record() == record, "all is done, or nothing"
    typed("tag", "one", "--name", "", "--description", "")
    assert (project.record()["display_name"], project.record()["description"]) == (None, None)


def test_show_tells_what_was_asked_for(project: Project) -> None:
    resources = {"time": "5m", "memory": "1G", "cpus_per_task": 1}
    environment = {"setup": "export A=\x1b", "modules": []}
    typed("submit", project.config("echo hello", resources=resources, environment=environment), "--wait")
    shown = typed("show", "@-1")
    line = next(line for line in shown.splitlines() if line.startswith("asked for   "))
    assert sorted(line[12:].split(", ")) == ["cpus per task 1", "memory 1G", "time 00:05:00"]
    assert "environment setup: export A=\ufffd\n" in shown
    assert "logs        user_logs/std_log.txt  6 B\n" in shown
    record = project.record()
    del record["config"]["settings"]  # as an older hpcrun wrote it
    record["config"]["processes"] = 4
    (project.home(record["id"]) / "run.json").write_text(json.dumps(record))
    assert "asked for   4 processes (single)\n" in typed("show", "@-1")


def test_open_prints_the_folder_and_nothing_else(project: Project) -> None:
    typed("submit", project.config("true"), "--wait")
    assert typed("open", "@-1") == f"{project.home(project.runs[0])}\n"
    refused("open", "nothing", code=4)


def test_a_folder_that_is_no_text_can_be_gone_to(tmp_path: Path) -> None:
    folder = tmp_path / "caf\udce9 $HOME"
    for project in cli_help.make_project(folder):
        folder.mkdir()
        process = cli_help.program("--workspace", str(folder), "run", "--wait", "--", "true")
        assert cli_help.ended(process)[0] == 0
        text = 'cd "$("$1" -m hpcrun --workspace "$2" open @-1)" && cat run.json'
        done = subprocess.run(
            ["bash", "-c", text, "bash", sys.executable, folder], capture_output=True, timeout=60, check=True
        )
        assert json.loads(done.stdout)["id"] == project.runs[0]


@pytest.fixture
def trained(project: Project) -> str:
    """A run that has ended, whose source directory was changed since, and then taken away."""
    source = project.folder / "src"
    source.mkdir()
    (source / "train.py").write_text("import sys\nprint('first', sys.argv[1:])\n")
    git(source, "init", "-q", "-b", "main")
    git(source, "add", "-A")
    git(source, "commit", "-q", "-m", "m")
    with (source / "train.py").open("a") as stream:
        stream.write("# not committed\n")
    data = {"experiment": "exp", "source_directory": "src", "script": "train.py", "arguments": ["a b"]}
    (project.folder / "run.yaml").write_text(json.dumps({**data, "tags": {"t": "1"}}))
    typed("submit", "run.yaml", "--name", "one", "--tag", "own=1", "--key", "k", "--time", "5m", "--wait")
    shutil.rmtree(source)
    return project.runs[0]


def git(folder: Path, *args: str) -> None:
    subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e@x", *args], cwd=folder, check=True)


def test_rerun_is_the_same_code_though_the_source_is_gone(project: Project, trained: str) -> None:
    assert typed("rerun", "one", "--follow") == "first ['a b']\n"
    new, old = project.record(), project.record(trained)
    assert new["id"] != trained and project.runs == [new["id"], trained]
    assert new["snapshot"] == old["snapshot"]
    assert new["properties"] == {**old["properties"], "rerun_of": trained}
    assert "git.commit" in new["properties"]
    diffs = [(project.home(run_id) / "git.diff").read_text() for run_id in project.runs]
    assert diffs[0] == diffs[1] and "+# not committed" in diffs[0]
    assert (new["experiment"], new["number"], new["target"]) == ("exp", 2, "local")
    assert (new["display_name"], new["key"], new["tags"]) == (None, None, {"t": "1"})
    without_name = [line for line in old["config"]["yaml"].splitlines() if "display_name" not in line]
    assert new["config"]["yaml"].splitlines() == without_name


def test_rerun_takes_options_and_arguments(project: Project, trained: str) -> None:
    args = ("--name", "two", "--experiment", "next", "--tag", "x=y", "--set", "resources.memory=1G")
    assert typed("rerun", "one", "--follow", *args, "--", "c") == "first ['c']\n"
    new = project.record()
    assert (new["display_name"], new["experiment"], new["tags"]) == ("two", "next", {"t": "1", "x": "y"})
    assert "memory: 1G" in new["config"]["yaml"] and "time:" in new["config"]["yaml"]
    again = document("rerun", "two", "--wait")
    assert again["properties"]["rerun_of"] == new["id"], "the run that was named, not the first of all"
    assert again["experiment"] == "next"


def test_rerun_of_what_is_not_in_the_snapshot(project: Project, trained: str) -> None:
    error = refused("rerun", "one", "--set", "script=trian.py", code=3)
    assert "script: there is no trian.py in the snapshot" in error and "did you mean train.py?" in error
    assert "no run" in refused("rerun", "three", code=4)
    shutil.rmtree(project.folder / ".hpcrun" / "snapshots.git")
    error = refused("rerun", "one", code=5)
    assert "is not in" in error and "--fresh" in error
    assert project.runs == [trained]


def test_rerun_fresh_is_the_source_as_it_is_now(project: Project, trained: str) -> None:
    assert "there is no such directory" in refused("rerun", "one", "--fresh", code=3)
    (project.folder / "src").mkdir()
    (project.folder / "src" / "train.py").write_text("print('second')")
    assert typed("rerun", "one", "--fresh", "--follow") == "second\n"
    new = project.record()
    assert new["properties"] == {"rerun_of": trained}
    assert new["snapshot"]["id"] != project.record(trained)["snapshot"]["id"]


def test_dry_run_of_a_rerun_writes_nothing(project: Project, trained: str) -> None:
    script = typed("rerun", "one", "--dry-run")
    assert "train.py" in script and project.runs == [trained]


def test_a_script_behind_a_link_runs_again(project: Project) -> None:
    (project.folder / "real").mkdir()
    (project.folder / "real" / "train.py").write_text("print('through')")
    (project.folder / "link").symlink_to("real")
    (project.folder / "run.yaml").write_text('{"experiment": "e", "script": "./link/train.py"}')
    assert typed("submit", "run.yaml", "--follow") == "through\n"
    assert typed("rerun", "@-1", "--follow") == "through\n"


def test_rerun_resumes_from_where_the_first_did(project: Project) -> None:
    typed("submit", project.config("echo 1 > outputs/x"), "--wait")
    text = 'cat "$HPCRUN_RESUME_FROM/x"; echo 2 > outputs/x'
    assert typed("submit", project.config(text, resume_from="@-1"), "--follow") == "1\n"
    assert typed("rerun", "@-1", "--follow") == "1\n", "what is @-1 now is another run"


def test_rerun_elsewhere_leaves_the_old_sites_defaults_behind(project: Project) -> None:
    sites = project.folder / "site_configs"
    sites.mkdir()
    for name, memory in (("here", "3G"), ("there", "5G")):
        site = {"scheduler": {"type": "local"}, "defaults": {"memory": memory, "time": "7m"}}
        (sites / f"{name}.yaml").write_text(json.dumps(site))
    typed("submit", project.config("true"), "-t", "here", "--time", "9m", "--wait")
    (sites / "here.yaml").write_text('{"scheduler": {"type": "local"}, "defaults": {"memory": "4G"}}')
    wanted = {"-t here": "memory: 3G", "-t there": "memory: 5G", "--set compute_target=there": "memory: 5G"}
    first = project.runs[0]
    for args, expected in wanted.items():
        typed("rerun", first, "--wait", *args.split())
        text = project.record()["config"]["yaml"]
        assert expected in text, args
        assert "time: 00:09:00" in text.replace('"', ""), "what was asked for is kept"


def test_diff_of_what_is_the_same(project: Project) -> None:
    typed("submit", project.config("true"), "--wait")
    typed("rerun", "@-1", "--wait")
    new, old = project.runs
    assert typed("diff", old, new) == f"{old} and {new} ran the same code in the same way\n"
    assert document("diff", old, new) == {
        "runs": [old, new],
        "same": True,
        "configuration": [],
        "environment": [],
        "git": [],
        "code": "",
    }


@pytest.fixture
def two(project: Project, trained: str) -> list[str]:
    source = project.folder / "src"
    source.mkdir()
    (source / "train.py").write_text("import sys\nprint('雪 second')\n")
    (source / "new.py").write_text("\tx = '\x1b[31m'\n")
    git(source, "init", "-q", "-b", "other")
    git(source, "add", "-A")
    git(source, "commit", "-q", "-m", "m")
    more = ("--set", "environment_variables.A=1", "--experiment", "e2", "--set", "resources.cpus_per_task=1")
    args = ("--set", 'arguments=[x, 1, "1"]')
    typed("rerun", "one", "--fresh", "--wait", *more, *args)
    return [trained, project.runs[0]]


def test_diff(two: list[str], project: Project) -> None:
    old, new = two
    lines = typed("diff", old, new).splitlines()
    assert lines[:2] == [f"- {old}", f"+ {new}"]
    configuration = lines[lines.index("configuration:") : lines.index("environment:")]
    for line in (
        "- experiment: exp",
        "+ experiment: e2",
        "- display_name: one",
        '- arguments: ["a b"]',
        '+ arguments: ["x", 1, "1"]',
        "+ resources.cpus_per_task: 1",
    ):
        assert line in configuration
    assert not any("time" in line or "tags" in line for line in configuration), "what is the same is not told"
    assert "+ environment_variables.A: 1" in lines[lines.index("environment:") : lines.index("git:")]
    told = lines[lines.index("git:") : lines.index("code:")]
    assert "- git.branch: main" in told and "+ git.branch: other" in told
    assert any(line.startswith("+ git.commit: ") for line in told)
    assert "+++ b/new.py" in lines and "-print('first', sys.argv[1:])" in lines


def test_the_code_of_a_diff_is_a_patch_that_applies(two: list[str], tmp_path: Path) -> None:
    patch = typed("diff", *two).partition("code:\n")[2].encode()
    place = tmp_path / "place"
    place.mkdir()
    (place / "train.py").write_text("import sys\nprint('first', sys.argv[1:])\n# not committed\n")
    subprocess.run(["git", "apply", "-"], input=patch, cwd=place, check=True)
    assert (place / "train.py").read_text() == "import sys\nprint('雪 second')\n"
    assert (place / "new.py").read_text() == "\tx = '\x1b[31m'\n"


def test_a_diff_as_json(two: list[str]) -> None:
    found = document("diff", *two)
    assert (found["runs"], found["same"]) == (two, False)
    assert {"key": "experiment", "old": "exp", "new": "e2"} in found["configuration"]
    assert found["environment"] == [{"key": "environment_variables.A", "old": None, "new": "1"}]
    assert {each["key"] for each in found["git"]} >= {"git.branch", "git.commit", "git.dirty"}
    assert "+print('雪 second')" in found["code"]


def test_a_diff_has_colour_on_a_terminal_only(two: list[str]) -> None:
    assert "\x1b[32m" not in typed("diff", *two)
    shown = on_terminal("diff", *two)
    assert "\x1b[32m+ experiment: e2" in shown
    assert "\x1b[31m-print('first'" in shown
    assert "'\x1b[31m'" not in shown, "what a file holds plays no tricks"
    plain = on_terminal("diff", *two, NO_COLOR="1")
    assert "\x1b" not in plain and "+ experiment: e2" in plain


def test_diff_where_a_snapshot_is_gone(two: list[str], project: Project) -> None:
    shutil.rmtree(project.folder / ".hpcrun" / "snapshots.git")
    assert "there is no snapshot" in refused("diff", *two, code=5)
    assert "ran the same code" in typed("diff", two[0], two[0])
