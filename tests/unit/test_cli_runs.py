"""Looking at runs and ending them: ``ls``, ``show``, ``logs``, ``wait``, ``cancel``."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcrun import Experiment, Run, Workspace
from hpcrun.errors import UsageError
from tests import cli_help
from tests.cli_help import (
    FAILS,
    Project,
    document,
    ended,
    hpcrun,
    on_terminal,
    program,
    read_until,
    refused,
    typed,
)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    yield from cli_help.make_project(tmp_path)


@pytest.fixture
def three(project: Project) -> list[str]:
    """Three runs that have ended, the newest first."""
    typed("submit", project.config("true"), "--experiment", "old", "--tag", "k=1", "--wait")
    typed("submit", project.config(FAILS), "--name", "a name", "--tag", "k=2", "--wait", code=20)
    typed("submit", project.config("touch outputs/a outputs/b"), "--wait")
    return project.runs


def listed(*args: str) -> list[str]:
    return [str(run["id"]) for run in document("ls", *args)["runs"]]


def test_ls(three: list[str]) -> None:
    head, *lines = typed("ls").splitlines()
    assert head.split() == ["ID", "#", "EXPERIMENT", "NAME", "STATE", "TARGET", "AGE", "DURATION"]
    assert [line.split()[0] for line in lines] == [run_id[-8:] for run_id in three]
    assert re.search(r"2  exp +- +Completed +local +\d+s +\d+s$", lines[0]) is not None
    assert re.search(r"1  exp +a name +Failed \(BadExit\) +local", lines[1]) is not None


def test_ls_filters(three: list[str]) -> None:
    newest, failed, oldest = three
    assert listed("-n", "1") == [newest]
    assert document("ls", "-n", "1")["more"] is True
    assert listed("-n", "1", "--all") == three
    assert listed("--experiment", "old") == [oldest]
    assert listed("--status", "failed") == [failed]
    assert listed("--status", "Failed", "--status", "COMPLETED") == three
    assert listed("--status", "ended") == three
    assert listed("--status", "active") == []
    assert listed("--tag", "k") == [failed, oldest]
    assert listed("--tag", "k=2") == [failed]
    assert listed("-t", "local") == three
    assert listed("-t", "elsewhere") == []
    result = hpcrun("ls", "--experiment", "none")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no runs like that\n")


def test_ls_by_name_and_time(three: list[str]) -> None:
    newest, failed, _ = three
    assert listed("--name", "A NAME") == [failed]
    assert listed("--name", newest[-6:]) == [newest]
    assert listed("--since", "1h") == three
    assert listed("--since", "1 day") == three
    tomorrow = time.strftime("%Y-%m-%d", time.localtime(time.time() + 90_000))
    assert listed("--since", tomorrow) == []
    assert listed("--since", time.strftime("%Y-%m-%d", time.localtime(time.time() - 90_000))) == three
    assert hpcrun("ls", "--since", tomorrow).stderr == "no runs like that\n"
    for wrong in ("yesterday", "2026", "2026-11", "12:00", "-1d", "0001-01-01T00:00+23:00"):
        assert "--since" in refused("ls", "--since", wrong, code=2), wrong


def test_since_is_in_local_time(three: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    zone = os.environ.get("TZ")
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() - 3600))
    try:
        for name, expected in (("UTC", three), ("HERE+5", [])):
            monkeypatch.setenv("TZ", name)
            time.tzset()
            assert listed("--since", at) == expected
            assert listed("--since", at.replace(" ", "T") + "Z") == three
    finally:
        monkeypatch.undo() if zone is None else monkeypatch.setenv("TZ", zone)
        time.tzset()


def test_ls_sorted(three: list[str]) -> None:
    newest, failed, oldest = three
    assert listed("--sort", "experiment") == [newest, failed, oldest]
    assert listed("--sort", "name") == [failed, newest, oldest]
    assert listed("--sort", "number") == [newest, failed, oldest]
    assert listed("--sort", "age") == three
    assert listed("--sort", "started", "-n", "1", "--offset", "1") == [failed]
    assert listed("--offset", "3") == []
    refused("ls", "--sort", "beauty", code=2)


def test_ls_of_chosen_columns(three: list[str]) -> None:
    head, *lines = typed("ls", "--columns", "state,Number,run,exit").splitlines()
    assert head.split() == ["STATE", "#", "RUN", "EXIT"]
    assert [line.split()[-3:] for line in lines] == [
        ["2", three[0], "0"],
        ["1", three[1], "3"],
        ["1", three[2], "0"],
    ]
    shown = on_terminal("ls", "--columns", "run,created,started,message", columns=40, NO_COLOR="1")
    assert all(run_id in shown for run_id in three), "what was asked for is not cut"
    assert "the payload ended with exit code 3" in shown
    assert "no column is called 'sate'" in refused("ls", "--columns", "id,sate", code=2)
    refused("ls", "--columns", ",", code=2)


def test_ls_of_nothing(project: Project) -> None:
    typed("init")
    assert hpcrun("ls").stderr == "no runs yet\n"
    assert document("ls") == {"runs": [], "more": False, "trouble": {}}


def test_ls_brings_up_to_date_unless_told_not_to(project: Project) -> None:
    run_id = document("submit", project.config(project.until_let_go))["id"]
    project.let_go()
    assert document("ls", "--no-refresh")["runs"][0]["state"] == "Queued"
    deadline = time.monotonic() + cli_help.PATIENCE
    while document("ls")["runs"][0]["state"] != "Completed":
        assert time.monotonic() < deadline
    assert project.record(run_id)["state"] == "Completed"


def test_ls_with_one_damaged_record_still_lists_the_rest(project: Project) -> None:
    typed("submit", project.config("true"), "--wait")
    run_id = document("submit", project.config(project.until_let_go))["id"]
    path = project.home(run_id) / "run.json"
    whole = path.read_bytes()
    path.write_text("{")
    result = hpcrun("ls")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 3
    assert "run.json" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    path.write_bytes(whole)


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_ls_fits_the_terminal_and_never_cuts_an_id(columns: int, project: Project, three: list[str]) -> None:
    typed("submit", project.config("true"), "--name", "雪" * 30, "--experiment", "e" * 60, "--wait")
    shown = on_terminal("ls", columns=columns, NO_COLOR="1").splitlines()
    from rich.cells import cell_len

    assert all(cell_len(line) <= columns for line in shown)
    for run_id in project.runs:
        assert any(line.startswith(f"{run_id[-8:]} ") for line in shown)


def test_show(project: Project) -> None:
    subprocess.run(["git", "init", "-q", "-b", "main"], check=True)
    who = ["-c", "user.name=n", "-c", "user.email=e@x"]
    subprocess.run(["git", *who, "commit", "-q", "--allow-empty", "-m", "m"], check=True)
    name = project.config("for i in $(seq 25); do echo x > outputs/$i; done; exit 4")
    typed("submit", name, "--name", "n", "--tag", "a=1", "--tag", "b=2", "--key", "k", "--wait", code=20)
    (run_id,) = project.runs
    out = typed("show", run_id)
    for line in (
        f"run         {run_id}",
        "experiment  exp, run 1",
        "name        n",
        "state       Failed (BadExit)",
        "            the payload ended with exit code 4",
        "exit code   4",
        "key         k",
        "tags        a=1",
        "            b=2",
        "outputs     outputs/1  2 B",
        "            … and 5 more",
        f"folder      {project.home(run_id)}",
    ):
        assert f"{line}\n" in out
    assert re.search(r"^git         [0-9a-f]{12} on main, with uncommitted changes$", out, re.MULTILINE)
    assert re.search(r"^target      local, on \S+$", out, re.MULTILINE)
    assert re.search(r"^job         \d+$", out, re.MULTILINE)
    states = re.findall(r"\d\d:\d\d:\d\d  (\w+)", out)
    assert states[0] == "NotStarted"
    assert states[-1] == "Failed"


def test_show_as_json_is_the_record(project: Project) -> None:
    typed("submit", project.config("echo x > outputs/x"), "--wait")
    found = document("show", "@-1")
    record = project.record()
    assert {key: found[key] for key in record} == record
    assert set(found) - set(record) == {"children", "metrics", "outputs", "folder"}
    assert found["outputs"] == [{"name": "outputs/x", "bytes": 2}]
    assert found["started"].endswith("Z")


def test_times_are_local_for_people_and_utc_for_programs(three: list[str]) -> None:
    created = document("show", three[0])["created"]
    out = typed("show", three[0], TZ="UTC")
    assert created[:19].replace("T", " ") in out
    code, out, _ = ended(program("show", three[0], env={**os.environ, "TZ": "UTC-5:30"}))
    assert code == 0
    assert created[:19].replace("T", " ") not in out


@pytest.mark.parametrize("by", ["id", "short", "name", "newest", "number"])
def test_what_a_run_can_be_called(by: str, three: list[str]) -> None:
    names = {"id": three[1], "short": three[1][-8:], "name": "a name", "newest": "@-2", "number": "@exp:1"}
    assert document("show", names[by])["id"] == three[1]


def test_a_run_that_is_not_there(three: list[str]) -> None:
    message = refused("show", three[0][:-1] + "0", code=4)
    assert f"did you mean {three[0]}" in message


def test_what_a_job_says_plays_no_tricks_on_the_terminal(project: Project) -> None:
    typed("submit", project.config("true"), "--wait", "--tag", "k=v")
    record = project.record()
    path = project.home(record["id"]) / "run.json"
    path.write_text(json.dumps({**record, "message": "a\x1b[2Jb", "nodes": "n\x1b]0;x\x07"}))
    out = typed("show", "@-1")
    assert "\x1b" not in out
    assert "a\ufffd[2Jb" in out


def test_logs(three: list[str]) -> None:
    assert typed("logs", three[1]) == "before\noops\n"
    assert typed("logs", three[1], "-n", "1") == "oops\n"
    assert typed("logs", three[1], "--tail", "0") == ""
    assert document("logs", three[1])["lines"] == [
        {"rank": None, "text": "before"},
        {"rank": None, "text": "oops"},
    ]
    assert "exit code 3" in typed("logs", three[1], "--system")
    assert typed("logs", three[1], "--rank", "0") == "before\noops\n"
    assert "rank 0" in refused("logs", three[1], "--rank", "1", code=2)


def test_logs_of_a_run_that_printed_nothing(three: list[str], project: Project) -> None:
    result = hpcrun("logs", three[0])
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"hpcrun logs {three[0][-8:]} --system" in result.stderr
    typed("submit", project.config(f"while [ ! -e '{project.folder}/go' ]; do sleep 0.02; done"))
    assert "printed nothing yet" in hpcrun("logs", "@-1").stderr


def test_following_a_run_that_has_ended(three: list[str]) -> None:
    for run_id, code in ((three[0], 0), (three[1], 20)):
        result = hpcrun("logs", "-f", run_id)
        assert result.exit_code == code
        assert result.stdout == ("before\noops\n" if code else "")
    assert typed("logs", "-f", "-n", "1", three[1], code=20) == "oops\n"


def test_following_a_run_to_its_end(project: Project) -> None:
    typed("submit", project.config(project.until_let_go))
    process = program("logs", "-f", "@-1")
    read_until(process.stdout, "ready")
    project.let_go()
    code, out, err = ended(process)
    assert (code, out) == (0, "gone\n")
    assert "Completed" in err.splitlines()[-2]


def test_a_reader_that_leaves_ends_the_following(project: Project) -> None:
    typed("submit", project.config("while true; do echo on and on; sleep 0.02; done"))
    process = program("logs", "-f", "@-1")
    read_until(process.stdout, "on and on")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(cli_help.PATIENCE) == 141
    assert process.stderr is not None
    assert all(line.startswith("[") for line in process.stderr.read().splitlines())
    process.stderr.close()
    assert document("show", "@-1")["state"] == "Running"


def test_lines_of_several_processes_have_their_ranks(project: Project) -> None:
    typed("submit", project.config("true"), "--wait")
    record = project.record()
    record["config"]["processes"] = 4
    (project.home(record["id"]) / "run.json").write_text(json.dumps(record))
    folder = project.home(record["id"]) / "user_logs"
    for path in folder.iterdir():
        path.unlink()
    for rank in (0, 3):
        (folder / f"std_log_process_{rank:03d}.txt").write_text(f"I am {rank}\n")
    assert typed("logs", "@-1") == "[rank 0] I am 0\n[rank 3] I am 3\n"
    assert typed("logs", "@-1", "--rank", "3") == "[rank 3] I am 3\n"
    assert document("logs", "@-1", "--rank", "3")["lines"] == [{"rank": 3, "text": "I am 3"}]
    assert typed("logs", "@-1", "--rank", "0,2-3", "-f") == "[rank 0] I am 0\n[rank 3] I am 3\n"
    assert typed("logs", "@-1", "--rank", "1-2") == ""
    assert "ranks 0 to 3" in refused("logs", "@-1", "--rank", "2-4", code=2)
    for wrong in ("x", "3-1", "1,,2", "-1", "0-99999999"):
        assert "rank" in refused("logs", "@-1", f"--rank={wrong}", code=2)
    with Workspace(project.folder) as workspace:
        run = Run(Experiment(workspace, record["experiment"]), record["id"])
        assert run.get_log_lines() == [(0, "I am 0"), (3, "I am 3")]
        assert run.get_log_lines(3) == run.get_log_lines(range(1, 4)) == [(3, "I am 3")]
        with pytest.raises(UsageError, match="ranks 0 to 3"):
            run.get_log_lines(4)


def test_lines_of_many_processes_are_aligned_and_merged(project: Project) -> None:
    """By the times that lines begin with; where one process writes none, rank after rank."""
    typed("submit", project.config("true"), "--wait")
    record = project.record()
    record["config"]["processes"] = 12
    (project.home(record["id"]) / "run.json").write_text(json.dumps(record))
    folder = project.home(record["id"]) / "user_logs"
    for path in folder.iterdir():
        path.unlink()
    first = "begun\n2026-01-31 12:00:01,500 a\nof a\n2026-01-31 12:00:03,000 c\n"
    (folder / "std_log_process_002.txt").write_text(first)
    (folder / "std_log_process_011.txt").write_text("INFO [2026-01-31T12:00:02.250] b\n")
    told = [line[10:] for line in typed("logs", "@-1", "--merge").splitlines()]
    assert [line[-1] for line in told] == ["n", "a", "a", "b", "c"]
    assert typed("logs", "@-1", "--merge", "-n", "2").splitlines() == [
        "[rank 11] INFO [2026-01-31T12:00:02.250] b",
        "[rank  2] 2026-01-31 12:00:03,000 c",
    ]
    assert [line[:9] for line in typed("logs", "@-1").splitlines()] == ["[rank  2]"] * 4 + ["[rank 11]"]
    (folder / "std_log_process_000.txt").write_text("no time at all\n")
    ranks = [line[6:8] for line in typed("logs", "@-1", "--merge").splitlines()]
    assert ranks == [" 0", *[" 2"] * 4, "11"]
    shown = on_terminal("logs", "@-1", "--rank", "2,11")
    assert "\x1b[33m[rank  2]\x1b[0m begun" in shown and "\x1b[35m[rank 11]\x1b[0m INFO" in shown


@pytest.mark.parametrize("other", ["--system", "--json"])
def test_what_does_not_go_with_following(other: str, three: list[str]) -> None:
    assert hpcrun("logs", "-f", three[0], other).exit_code == 2


def test_wait(three: list[str]) -> None:
    newest, failed, oldest = three
    assert f"{newest}: Completed" in typed("wait", newest)
    assert "BadExit" in typed("wait", failed, code=20)
    out = typed("wait", newest, failed, oldest, newest, code=20)
    assert [line.split(":")[0] for line in out.splitlines() if not line.startswith(" ")] == three
    found = document("wait", newest, oldest)
    assert [run["id"] for run in found["runs"]] == [newest, oldest]


@pytest.mark.slow
def test_wait_for_runs_that_go_on(project: Project) -> None:
    first = document("submit", project.config(project.until_let_go))["id"]
    result = hpcrun("wait", first, "--timeout", "1s")
    assert result.exit_code == 22
    assert f"hpcrun wait {first[-8:]}" in result.stdout
    assert document("wait", first, "--timeout", "1s", code=22)["runs"][0]["state"] == "Running"
    process = program("wait", first)
    project.let_go()
    assert ended(process)[0] == 0


@pytest.mark.slow
def test_the_worst_of_many(project: Project) -> None:
    typed("submit", project.config("exit 1"), "--name", "bad", "--wait", code=20)
    typed("submit", project.config(project.until_let_go), "--name", "off")
    typed("cancel", project.ready())
    typed("wait", "off", code=21)
    typed("submit", project.config(project.until_let_go), "--name", "on")
    typed("wait", "on", "off", "--timeout", "1s", code=22)
    typed("wait", "on", "off", "bad", "--timeout", "1s", code=20)
    project.let_go()
    typed("wait", "on", "off", code=21)


def test_ctrl_c_while_following_leaves_the_run_alone(project: Project) -> None:
    run_id = document("submit", project.config(project.until_let_go))["id"]
    process = program("logs", "-f", run_id)
    read_until(process.stdout, "ready")
    process.send_signal(signal.SIGINT)
    code, _, err = ended(process)
    assert code == 130
    assert f"run {run_id} goes on" in err
    assert f"hpcrun logs -f {run_id[-8:]}" in err
    assert document("show", run_id)["state"] == "Running"
    project.let_go()
    typed("wait", run_id)


def test_ctrl_c_while_waiting_leaves_the_runs_alone(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        typed("submit", project.config(project.until_let_go), "--name", name)
    with monkeypatch.context() as patch:
        patch.setattr("hpcrun.engine.wait.time.sleep", lambda _: os.kill(os.getpid(), signal.SIGINT))
        message = refused("wait", "one", "two", code=130)
    assert "hpcrun: interrupted; 2 runs go on\n" in message
    assert f"come back: hpcrun wait {project.runs[1][-8:]} {project.runs[0][-8:]}" in message
    project.let_go()
    typed("wait", "one", "two")


def test_cancel(project: Project) -> None:
    run_id = document("submit", project.config(project.until_let_go))["id"]
    project.ready()
    assert re.fullmatch(rf"{run_id}: (CancelRequested|Canceled)\n", typed("cancel", "@-1"))
    assert "Canceled" in typed("wait", run_id, code=21)
    assert typed("cancel", run_id) == f"{run_id}: had ended: Canceled\n"
    found = document("cancel", run_id)
    assert found["errors"] == []
    assert found["runs"][0]["state"] == "Canceled"


def test_cancel_many_or_none(project: Project) -> None:
    typed("submit", project.config("true"), "--wait")
    typed("submit", project.config(project.until_let_go))
    project.ready()
    assert refused("cancel", "@-1", "nope", code=4)
    assert all(run["state"] != "CancelRequested" for run in document("ls")["runs"])
    going, had_ended = typed("cancel", "@-1", "@-2").splitlines()
    assert "had ended" not in going
    assert had_ended.endswith("had ended: Completed")
    typed("wait", "@-1", "@-2", code=21)
