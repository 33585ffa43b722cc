"""The one gate for programs, on this machine."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpcrun.errors import CommandError
from hpcrun.shells import processes
from hpcrun.shells.base import Result, Shell
from hpcrun.shells.local import LocalShell
from hpcrun.shells.processes import clean_environment

shell = LocalShell()


def sh(script: str, timeout: float = 30, **more: str) -> Result:
    return shell.run(["sh", "-c", script], timeout=timeout, env=more)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie, which nobody may have collected yet, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def await_(condition: Callable[[], object], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def reaper() -> Iterator[list[int]]:
    """Pids to kill whatever becomes of the test."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_GRACE", 0.3)


def test_it_is_a_shell() -> None:
    checked: Shell = shell
    assert checked.run(["true"], timeout=5).ok


def test_a_result_tells_all() -> None:
    result = sh("echo out; echo err >&2; exit 3")
    assert (result.rc, result.stdout, result.stderr, result.ok) == (3, "out\n", "err\n", False)
    assert result.argv == ("sh", "-c", "echo out; echo err >&2; exit 3")
    assert not result.timed_out and 0 < result.seconds < 30
    with pytest.raises(CommandError, match=r"listing: sh -c .* ended with exit code 3\n    err"):
        result.check("listing")
    assert sh("exit 0").check().ok


def test_a_signal_is_a_negative_code() -> None:
    assert sh("kill -9 $$").rc == -signal.SIGKILL


def test_only_the_last_lines_and_the_first_words_are_told() -> None:
    result = shell.run(["sh", "-c", "seq 100; exit 1", *map(str, range(100))], timeout=10)
    text = result.describe()
    assert "\n    100" in text and "\n    91" in text and "\n    90" not in text and " … " in text


def test_words_are_passed_as_they_are() -> None:
    words = ["$(id)", "a b", "'", '"', "\\", "*", "", "é", "\n"]
    assert shell.run(["printf", "%s|", *words], timeout=5).stdout == "|".join(words) + "|"


def test_stdin_is_closed_unless_given() -> None:
    assert shell.run(["cat"], timeout=10).stdout == ""
    assert shell.run(["cat"], timeout=10, stdin="é\n").stdout == "é\n"
    assert shell.run(["od", "-An", "-tx1"], timeout=10, stdin=b"\xff").stdout.strip() == "ff"
    assert shell.run(["od", "-An", "-tx1"], timeout=10, stdin="\udcff").stdout.strip() == "ff"
    # A program that does not read its input is no error.
    assert shell.run(["true"], timeout=10, stdin="x" * 1_000_000).ok


def test_there_is_no_terminal_to_ask_on() -> None:
    assert sh("exec </dev/tty").rc != 0


def test_output_that_is_no_utf8_is_kept_readable() -> None:
    assert sh(r"printf 'caf\351'; printf '\377' >&2").stdout == "caf\ufffd"


def test_much_output_on_both_streams_does_not_block() -> None:
    result = sh("head -c 3000000 /dev/zero | tr '\\0' x; head -c 3000000 /dev/zero | tr '\\0' y >&2")
    assert (len(result.stdout), len(result.stderr)) == (3_000_000, 3_000_000)


def test_a_missing_program_is_told_with_a_hint() -> None:
    with pytest.raises(CommandError, match="no program 'no-such-program'") as caught:
        shell.run(["no-such-program"], timeout=5)
    assert caught.value.hint


def test_a_missing_folder_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"no folder .*/gone"):
        shell.run(["true"], timeout=5, cwd=tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match=r"no folder .*/file"):
        shell.run(["true"], timeout=5, cwd=tmp_path / "file")


def test_what_cannot_be_started_is_told(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("no program\n")
    with pytest.raises(CommandError, match=r"cannot start .*: Permission denied"):
        shell.run([str(program)], timeout=5)
    program.chmod(0o755)
    with pytest.raises(CommandError, match=r"cannot start .*: Exec format error"):
        shell.run([str(program)], timeout=5)
    with pytest.raises(CommandError, match=r"cannot start .*: Argument list too long"):
        shell.run(["true", "x" * 10_000_000], timeout=5)


def test_it_runs_where_it_is_told(weird_tmp_path: Path, newline_tmp_path: Path) -> None:
    for folder in (weird_tmp_path, newline_tmp_path):
        assert shell.run(["pwd"], timeout=5, cwd=folder).stdout == f"{folder}\n"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "SLURM_JOB_ID",
            "SLURM_CPU_BIND",
            "SBATCH_PARTITION",
            "SRUN_DEBUG",
            "SQUEUE_FORMAT",
            "SACCT_FORMAT",
        ),
        *(
            "PMI_RANK",
            "PMIX_RANK",
            "OMPI_COMM_WORLD_RANK",
            "LD_LIBRARY_PATH",
            "LD_PRELOAD",
            "BASH_ENV",
            "ENV",
        ),
        *("CDPATH", "BASH_FUNC_ls%%", "OPENSSL_CONF"),
    ],
)
def test_what_would_mislead_is_scrubbed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "leaked")
    assert name not in clean_environment()
    assert "leaked" not in shell.run(["env"], timeout=5).stdout
    assert clean_environment({name: "x", "KEPT": "y"}) == {"KEPT": "y"}


def test_what_is_needed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    monkeypatch.setenv("MY_TOKEN", "x")
    found = shell.run(["env"], timeout=5).stdout.splitlines()
    assert {"SLURM_CONF=/etc/slurm.conf", "MY_TOKEN=x", f"PATH={os.environ['PATH']}"} <= set(found)
    # What is given on purpose is given, and only for this once.
    assert "SBATCH_X=1" in shell.run(["env"], timeout=5, env={"SBATCH_X": "1"}).stdout
    assert "SBATCH_X" not in shell.run(["env"], timeout=5).stdout


def test_a_deadline_ends_a_program_and_keeps_what_it_said() -> None:
    result = sh("echo said; exec sleep 1000", timeout=0.3)
    assert (result.rc, result.timed_out, result.ok, result.stdout) == (None, True, False, "said\n")
    assert result.seconds < 10
    with pytest.raises(CommandError, match="did not end within"):
        result.check()


GRANDCHILDREN = {
    "holding the pipe": "sleep 1000 & echo $! > pids; wait",
    "with its output elsewhere": "sleep 1000 >/dev/null 2>&1 & echo $! > pids; wait",
    "deaf to SIGTERM": "(trap '' TERM; exec sleep 1000) & echo $! > pids; trap '' TERM; wait; wait",
    "deaf, quiet, and left alone": "(trap '' TERM; exec sleep 1000 >/dev/null 2>&1) & echo $! > pids; wait",
    "two generations down": "sh -c 'sleep 1000 & echo $! > pids; wait' & wait",
    "with its parent gone": "sleep 1000 & echo $! > pids; exit 0",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", GRANDCHILDREN)
def test_a_deadline_ends_all_that_was_started(tmp_path: Path, kind: str, reaper: list[int]) -> None:
    result = sh(GRANDCHILDREN[kind], timeout=1)
    pid = int((tmp_path / "pids").read_text())
    reaper.append(pid)
    assert result.timed_out
    await_(lambda: not alive(pid))


def test_what_left_the_session_cannot_hold_us_up(tmp_path: Path, reaper: list[int]) -> None:
    result = sh("echo said; setsid sleep 1000 & echo $! > pids; wait", timeout=1)
    reaper.append(int((tmp_path / "pids").read_text()))
    assert result.timed_out and result.stdout == "said\n" and result.seconds < 10


def test_time_to_clean_up_is_given(tmp_path: Path) -> None:
    script = "trap 'echo cleaned > file; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    assert sh(script, timeout=1).stdout == "ready\n"
    assert (tmp_path / "file").read_text() == "cleaned\n"


def test_an_interruption_ends_the_program_too(tmp_path: Path, reaper: list[int]) -> None:
    pids = tmp_path / "pids"

    me = threading.get_ident()

    def interrupt() -> None:
        await_(lambda: pids.exists() and pids.read_text().endswith("\n"))
        signal.pthread_kill(me, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        sh("echo $$ > pids; exec sleep 1000", timeout=60)
    thread.join()
    reaper.append(int(pids.read_text()))
    await_(lambda: not alive(reaper[0]))


def test_an_interruption_while_a_program_is_started_ends_it(
    tmp_path: Path, reaper: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes when the program runs already, and before anybody here knows of it."""
    real = subprocess.Popen

    class Slow(real):  # type: ignore[misc, valid-type]
        def __init__(self, *args: object, **more: object) -> None:
            super().__init__(*args, **more)
            await_(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().endswith("\n"))
            reaper.append(self.pid)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Slow)
    with pytest.raises(KeyboardInterrupt):
        sh("echo $$ > pids; exec sleep 1000", timeout=60)
    await_(lambda: not alive(reaper[0]))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_open_files_are_passed_on_only_when_asked(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert not shell.run(["test", "-e", f"/proc/self/fd/{fd}"], timeout=5).ok
        assert shell.run(["test", "-e", f"/proc/self/fd/{fd}"], timeout=5, keep_fds=[fd]).ok
    finally:
        os.close(fd)


def test_what_is_spawned_outlives_us(tmp_path: Path, reaper: list[int]) -> None:
    """A parent that spawns and ends leaves its child running, in a session of its own."""
    parent = (
        "import os, sys\n"
        "from hpcrun.shells.local import LocalShell\n"
        "out = os.open('log', os.O_WRONLY | os.O_CREAT, 0o600)\n"
        "script = 'ps -o sid= -p $$; echo $ONLY $HOME; read line < go; echo $line'\n"
        "env = {'PATH': os.environ['PATH'], 'ONLY': 'this'}\n"
        "print(LocalShell().spawn(['sh', '-c', script], cwd='.', env=env, stdout=out))\n"
    )
    os.mkfifo(tmp_path / "go")
    done = shell.run([sys.executable, "-c", parent], timeout=30).check()
    assert done.stderr == ""
    pid = int(done.stdout)
    reaper.append(pid)
    log = tmp_path / "log"
    await_(lambda: log.read_text().count("\n") == 2)
    assert alive(pid)
    (tmp_path / "go").write_text("went on\n")
    await_(lambda: not alive(pid))
    assert log.read_text().split("\n") == [log.read_text().split("\n")[0], "this", "went on", ""]
    assert int(log.read_text().split()[0]) == pid


def test_spawn_does_not_wait_and_passes_files_on(tmp_path: Path, reaper: list[int]) -> None:
    reading, writing = os.pipe()
    script = f"echo alive > /proc/self/fd/{writing}; exec sleep 1000"
    with (tmp_path / "log").open("wb") as log:
        pid = shell.spawn(
            ["sh", "-c", script],
            cwd=tmp_path,
            env=dict(os.environ),
            stdout=log.fileno(),
            keep_fds=[writing],
        )
    reaper.append(pid)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert select.select([pipe], [], [], 20)[0] and pipe.readline() == "alive\n"
    assert os.getsid(pid) == pid != os.getsid(0)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_spawn_tells_what_is_missing(tmp_path: Path) -> None:
    for argv, cwd, what in (
        (["no-such"], tmp_path, "no program"),
        (["true"], tmp_path / "gone", "no folder"),
    ):
        with pytest.raises(CommandError, match=what):
            shell.spawn(argv, cwd=cwd, env={"PATH": "/bin"}, stdout=1)
