"""``hpcrun submit`` and ``hpcrun run``, on this machine."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import cli_help
from tests.cli_help import (
    FAILS,
    Project,
    document,
    ended,
    hpcrun,
    program,
    read_until,
    refused,
    typed,
)

ECHO = "import os, sys\nprint(sys.argv[1:])\nopen('outputs/made.txt', 'w').write('made')\n"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    yield from cli_help.make_project(tmp_path)


def fakes(project: Project, monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
    """Programs of Slurm's that say and do what a test wants, and a site that uses them."""
    folder = project.folder / "bin"
    folder.mkdir()
    knows_nothing = dict.fromkeys(("squeue", "sacct", "scancel"), "exit 0")
    is_refused = dict.fromkeys(("sacctmgr", "scontrol", "sinfo"), "exit 1")
    for name, body in {**knows_nothing, **is_refused, **programs}.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    sites = project.folder / "site_configs"
    sites.mkdir()
    (sites / "cluster.yaml").write_text("scheduler: {type: slurm}\npartitions: {gpu: {}, cpu: {}}\n")


def script_of(*args: str) -> str:
    return typed("submit", *args, "--dry-run")


def test_submit_says_what_was_submitted_and_what_to_type_next(project: Project) -> None:
    out = typed("submit", project.config("true"))
    (run_id,) = project.runs
    first, folder, *_ = out.splitlines()
    assert first.startswith(f"submitted {run_id} to local, job ")
    assert str(project.home(run_id)) in folder
    for command in ("logs -f", "show", "cancel"):
        assert f"hpcrun {command} {run_id[-8:]}" in out


@pytest.mark.parametrize(
    ("command", "code", "state"),
    [
        ("true", 0, "Completed"),
        (FAILS, 20, "Failed (BadExit)"),
        pytest.param("sleep 60", 22, "Running", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("how", ["--wait", "--follow"])
def test_waiting_ends_with_the_runs_own_code(
    command: str, code: int, state: str, how: str, project: Project
) -> None:
    more = ["--timeout", "2s"] if code == 22 else []
    result = hpcrun("submit", project.config(command), how, *more)
    assert result.exit_code == code
    said = result.stderr if how == "--follow" else result.stdout
    assert f"{project.runs[0]}: {state}" in said
    if code == 22:
        assert "it goes on" in said
    else:
        assert f"outputs in {project.home(project.runs[0])}" in said


@pytest.mark.parametrize("how", ["--wait", "--follow"])
def test_a_canceled_run_is_exit_code_21(how: str, project: Project) -> None:
    process = program("submit", project.config(project.until_let_go), how)
    read_until(process.stdout if how == "--wait" else process.stderr, "submitted")
    typed("cancel", project.ready())
    code, out, err = ended(process)
    assert code == 21
    assert "Canceled" in (out if how == "--wait" else err)


def test_follow_prints_what_the_run_prints_and_nothing_else_on_stdout(project: Project) -> None:
    name = project.config("echo one; echo two >&2; printf three; touch outputs/a outputs/b")
    result = hpcrun("submit", name, "--follow")
    assert result.stdout == "one\ntwo\nthree\n"
    lines = result.stderr.splitlines()
    assert lines[0].startswith("submitted ")
    assert lines[-2].startswith(f"{project.runs[0]}: Completed")
    assert "2 outputs in" in lines[-1]


def test_wait_is_silent_until_the_end(project: Project) -> None:
    result = hpcrun("submit", project.config(FAILS), "--wait")
    assert "before" not in result.output
    assert f"hpcrun logs {project.runs[0][-8:]}" in result.stdout
    assert result.stderr == ""


def test_a_run_that_never_began_leads_to_the_system_logs(project: Project) -> None:
    result = hpcrun("submit", project.config("exit 1"), "--wait")
    assert (
        f"it printed nothing; what went on around it: hpcrun logs {project.runs[0][-8:]} --system"
        in result.stdout
    )


@pytest.mark.parametrize("how", [[], ["--wait"], ["--follow"]])
def test_submit_as_json_is_one_document(how: list[str], project: Project) -> None:
    result = hpcrun("submit", project.config("echo noise; echo x > outputs/x"), *how, "--json")
    found = json.loads(result.stdout)
    assert found["id"] == project.runs[0]
    assert found["new"] is True
    assert found["job_id"]
    assert Path(found["run_dir"]).is_dir()
    assert found["folder"] == str(project.home(found["id"]))
    if how:
        assert (found["state"], found["exit_code"]) == ("Completed", 0)
        assert found["outputs"] == [{"name": "outputs/x", "bytes": 2}]
    assert ("noise" in result.stderr) == ("--follow" in how)


def tree(folder: Path) -> dict[str, Any]:
    return {str(path.relative_to(folder)): path.lstat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_dry_run_writes_nothing_and_shows_the_very_script(project: Project) -> None:
    name = project.script(ECHO, arguments=["--text", "ünï 'quoted' $HOME"], tags={"a": "b"})
    run_id = "exp_20260101-000000_aaaaaaaa"
    before = tree(project.folder), tree(Path(os.environ["HOME"]))
    dry, script, err = ended(program("submit", name, "--run-id", run_id, "--dry-run"))
    assert (dry, err) == (0, "")
    assert (tree(project.folder), tree(Path(os.environ["HOME"]))) == before
    typed("submit", name, "--run-id", run_id, "--wait")
    assert (project.home(run_id) / "job.sh").read_bytes() == script.encode()


def test_dry_run_in_a_workspace_leaves_it_alone(project: Project) -> None:
    name = project.config("true")
    typed("submit", name, "--wait")
    before = tree(project.folder)
    found = document("submit", name, "--dry-run", "--nodes", "1")
    assert found["script"].startswith("#!/bin/bash")
    assert found["id"] in found["run_dir"]
    assert tree(project.folder) == before


def test_dry_run_of_a_run_that_resumes_another(project: Project) -> None:
    name = project.config("true")
    assert "no workspace" in refused("submit", name, "--set", "resume_from=@-1", "--dry-run", code=4)
    typed("submit", name, "--wait")
    script = script_of(name, "--set", "resume_from=@-1")
    assert f"{project.runs[0]}/code/outputs" in script


def test_set_and_flags_go_before_the_file(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes(project, monkeypatch)
    name = project.config(
        "true",
        compute_target="cluster:cpu",
        resources={"nodes": 1, "time": "1h", "memory": "1G", "qos": "low", "account": "a"},
    )
    plain = script_of(name)
    assert "#SBATCH --time=01:00:00\n" in plain
    assert "#SBATCH --partition=cpu\n" in plain
    script = script_of(
        name, "--nodes", "3", "--gpus-per-node", "a100:2", "--time", "90m", "--mem", "4G",
        "-p", "gpu", "-A", "proj", "--qos", "high", "--set", "resources.constraint=fast",
        "--set", "resources.nodes=2",
    )  # fmt: skip
    for directive in ("nodes=3", "gres=gpu:a100:2", "time=01:30:00", "mem=4G", "partition=gpu",
                      "account=proj", "qos=high", "constraint=fast"):  # fmt: skip
        assert f"#SBATCH --{directive}\n" in script
    assert "#SBATCH --nodes=2\n" in script_of(name, "--set", "resources.nodes=2")


def test_target_on_the_command_line(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes(project, monkeypatch)
    name = project.config("true", compute_target="cluster:cpu")
    assert "#SBATCH --partition=gpu\n" in script_of(name, "-t", "cluster:gpu")
    assert document("submit", name, "-t", "local", "--wait")["target"] == "local"
    message = refused("submit", name, "-t", "clustre", code=3)
    assert "did you mean cluster?" in message


def test_experiment_name_tags_and_run_id(project: Project) -> None:
    run_id = "other_20260101-000000_abcdefgh"
    found = document(
        "submit", project.config("true", tags={"a": "file", "b": "file"}), "--experiment", "other",
        "--name", "My run", "--tag", "a=line", "--tag", "c=x=y", "--run-id", run_id, "--wait",
    )  # fmt: skip
    assert (found["id"], found["experiment"], found["display_name"]) == (run_id, "other", "My run")
    assert found["tags"] == {"a": "line", "b": "file", "c": "x=y"}


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--experiment", "no spaces"], 3),
        (["--run-id", "../escape"], 3),
        (["--tag", "novalue"], 2),
        (["--timeout", "1h"], 2),
        (["--dry-run", "--follow"], 2),
        (["--wait", "--timeout", "soon"], 2),
        (["--nodes", "many"], 2),
        (["--nodes", "0"], 3),
        (["--time", "never"], 3),
        (["--nodes", "2"], 3),
        (["--set", "nonsense"], 3),
        (["-t", "nowhere"], 3),
    ],
)
def test_refusals_leave_nothing_behind(args: list[str], code: int, project: Project) -> None:
    assert refused("submit", project.config("true"), *args, code=code)
    assert not (project.folder / ".hpcrun").exists()


def test_errors_of_the_file_name_their_places(project: Project) -> None:
    (project.folder / "bad.yaml").write_text(
        "experiment: exp\nscript: nope.py\nresources:\n  nodes: two\n  gpu_per_node: 1\n"
    )
    message = refused("submit", "bad.yaml", code=3)
    assert "hpcrun: error: 2 problems:\n" in message
    assert "bad.yaml:4:10: resources.nodes:" in message
    assert "bad.yaml:5:3: resources.gpu_per_node:" in message
    problems = json.loads(hpcrun("submit", "bad.yaml", "--json").stdout)["error"]["problems"]
    assert [p["where"] for p in problems] == ["bad.yaml:4:10", "bad.yaml:5:3"]
    message = refused("submit", "bda.yaml", code=4)
    assert "no such file: bda.yaml\n  did you mean bad.yaml?" in message
    assert "no such file" in refused("submit", "no/where.yaml", code=4)


def test_arguments_after_dashes_replace_those_of_the_file(project: Project) -> None:
    name = project.script(ECHO, arguments=["from", "file"])
    assert typed("submit", name, "--follow") == "['from', 'file']\n"
    words = ["--lr", "0.1", "two words", "$HOME", "--json", "--help", "--", "-x"]
    assert typed("submit", name, "--follow", "--", *words) == f"{words}\n"
    assert typed("submit", name, "--follow", "--") == "[]\n"


def test_one_key_one_run(project: Project) -> None:
    name = project.config(project.until_let_go)
    first = document("submit", name, "--key", "k")
    out = typed("submit", name, "--key", "k")
    assert out.startswith(f"already submitted as {first['id']} ")
    again = document("submit", name, "--key", "k")
    assert (again["id"], again["new"]) == (first["id"], False)
    process = program("submit", name, "--key", "k", "--follow")
    read_until(process.stdout, "ready")
    project.let_go()
    code, out, _ = ended(process)
    assert (code, out) == (0, "gone\n")
    assert project.runs == [first["id"]]
    assert f"already submitted as {first['id']}: Completed after" in typed("submit", name, "--key", "k")


def test_what_is_left_out_of_the_snapshot_is_said(project: Project) -> None:
    (project.folder / "outputs").mkdir()
    result = hpcrun("submit", project.config("true"), "--wait")
    assert "hpcrun: note: outputs/ at the top of the source is left out" in result.stderr


def test_what_the_scheduler_refuses_is_exit_code_6(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes(project, monkeypatch, sbatch="echo 'sbatch: error: Invalid account' >&2; exit 1")
    message = refused("submit", project.config("true"), "-t", "cluster", code=6)
    assert "Invalid account" in message and "sacctmgr show associations" in message
    assert project.record()["state"] == "Failed"


def test_what_is_allowed_instead_is_said_and_kept(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    refuses = "echo 'sbatch: error: Invalid account' >&2; exit 1"
    fakes(project, monkeypatch, sbatch=refuses, sacctmgr="echo 'lab||normal'")
    allowed = "You may use: account lab (QOS: normal)."
    assert allowed in refused("submit", project.config("true"), "-t", "cluster", code=6)
    (project.folder / "bin" / "sacctmgr").unlink()
    assert document("explain", "@-1")["next"][0] == allowed


def test_a_scheduler_that_does_not_answer_is_one_line(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"
    fakes(project, monkeypatch, sbatch="echo 123", squeue=fails, sacct=fails, scancel=fails)
    found = document("submit", project.config("true"), "-t", "cluster")
    assert found["job_id"] == "123"
    for args in (("ls",), ("show", "@-1"), ("wait", "@-1", "--timeout", "1s")):
        result = hpcrun(*args)
        assert result.exit_code == (22 if args[0] == "wait" else 0)
        (line,) = result.stderr.splitlines()
        assert line.startswith("hpcrun: cluster: ")
        assert "Unable to contact" in line
        assert line.endswith("; shown as last seen")
    assert document("ls")["trouble"]["cluster"]
    assert hpcrun("ls", "--no-refresh").stderr == ""
    assert hpcrun("show", "@-1", "--no-refresh").stderr == ""
    assert "Unable to contact" in hpcrun("cancel", "@-1").stderr
    assert hpcrun("cancel", "@-1").exit_code == 8


def test_ctrl_c_while_following_leaves_the_run_alone(project: Project) -> None:
    process = program("submit", project.config(project.until_let_go), "--follow")
    read_until(process.stdout, "ready")
    process.send_signal(signal.SIGINT)
    code, _, err = ended(process)
    (run_id,) = project.runs
    assert code == 130
    assert f"hpcrun: interrupted; run {run_id} goes on\n" in err
    assert f"hpcrun logs -f {run_id[-8:]}" in err
    assert "Traceback" not in err
    project.let_go()
    assert "Completed" in typed("wait", run_id)


def interrupt_in(monkeypatch: pytest.MonkeyPatch, where: str, times: int) -> None:
    """Ctrl-C, as often as said, when hpcrun gets to ``where``."""
    import importlib

    module, _, name = where.rpartition(".")
    home: Any = importlib.import_module(module.removesuffix(".SnapshotStore"))
    home = getattr(home, "SnapshotStore") if module.endswith(".SnapshotStore") else home  # noqa: B009
    original = getattr(home, name)

    def interrupted(*args: Any, **more: Any) -> Any:
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
        return original(*args, **more)

    monkeypatch.setattr(home, name, interrupted)


def test_ctrl_c_lets_a_submission_that_has_begun_be_finished(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_in(monkeypatch, "hpcrun.engine.submit.carry_out", 1)
    message = refused("submit", project.config("true"), code=130)
    (run_id,) = project.runs
    assert f"run {run_id} is submitted and goes on" in message
    monkeypatch.undo()
    assert project.record()["job_id"]


def test_a_second_ctrl_c_breaks_it_off_and_the_next_command_makes_up_for_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_in(patch, "hpcrun.engine.submit.carry_out", 2)
        message = refused("submit", project.config("true"), code=130)
    (run_id,) = project.runs
    assert f"hpcrun show {run_id}" in message
    assert project.record()["job_id"] is None
    assert "Completed" in typed("wait", run_id)


def test_ctrl_c_while_the_snapshot_is_taken_submits_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_in(patch, "hpcrun.snapshot.SnapshotStore.take", 1)
        assert "nothing was submitted" in refused("submit", project.config("true"), code=130)
    assert project.runs == []


def test_run_needs_no_file(project: Project) -> None:
    (project.folder / "data.txt").write_text("here\n")
    assert typed("run", "--follow", "--", "cat", "data.txt") == "here\n"
    assert typed("run", "--follow", "cat", "data.txt") == "here\n"
    words = ["--wait", "two words", "$HOME", "*", "--"]
    assert typed("run", "--follow", "--", "printf", "%s\\n", *words).splitlines() == words
    record = project.record()
    assert record["experiment"] == project.folder.name
    assert "command:" in (project.home(record["id"]) / "config.yaml").read_text()


def test_run_with_options(project: Project) -> None:
    source = project.folder / "src"
    source.mkdir()
    (source / "inner.txt").write_text("inner\n")
    result = hpcrun("run", "--source", "src", "--name", "n", "--follow", "--", "cat", "inner.txt")
    assert result.stdout == "inner\n"
    assert project.record()["experiment"] == "src"
    script = typed("run", "--dry-run", "--set", "environment_variables.X=1", "--time", "1m", "--", "env")
    assert "X=1" in script
    assert "no such directory" in refused("run", "--source", "nowhere", "--", "true", code=3)
    assert typed("run", "--wait", "--", "bash", "-c", "exit 3", code=20)


def test_an_unknown_target_is_one_of_all_that_is_wrong(project: Project) -> None:
    Path("wrong.yaml").write_text("scrpt: train.py\ncompute_target: snelius\n")
    said = refused("submit", "wrong.yaml", code=3)
    assert "wrong.yaml:1:1: scrpt: unknown key: did you mean script?" in said
    assert "wrong.yaml:2:17: compute_target: no site is called snelius" in said
    assert not Path(".hpcrun").exists()
