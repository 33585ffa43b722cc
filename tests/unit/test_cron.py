"""``hpcrun cron``: one entry of its own in a crontab or among systemd's timers, and its script."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.engine import crontab, systemd
from hpcrun.engine.cron import daemon_runs
from hpcrun.errors import UsageError
from tests.cli_help import document, hpcrun, refused, typed
from tests.cron_help import crontab_stand_in, stand_in

MARK = "hpcrun-0123456789ab"
OTHERS = b"# mine\nSHELL=/bin/sh\n*/5  *\t* * *   backup --all\n\n@daily caf\xe9 100\\%\n \x0b odd\r\n"


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the crontab is, of a user whose machine has the program."""
    return crontab_stand_in(tmp_path, monkeypatch)


def workspace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    typed("init")
    return folder


def as_cron_does(table: Path) -> subprocess.CompletedProcess[str]:
    """Run the last entry of the crontab: its command, with nothing but what cron gives."""
    line = table.read_text().splitlines()[-1]
    command = re.sub(r"\\%", "%", line.split(" ", 5)[5])
    env = {"HOME": os.environ["HOME"], "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LOGNAME": "me"}
    return subprocess.run(
        ["/bin/sh", "-c", command], env=env, cwd=env["HOME"], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("minutes", [1, 2, 5, 15, 30, 60, 120, 360, 720, 1440])
@pytest.mark.parametrize("mark", [MARK, "hpcrun-ffffffffffff", "another"])
def test_the_fields_mean_every_so_many_minutes(minutes: int, mark: str) -> None:
    slots = CronSim(crontab.timetable(minutes * 60, mark), datetime(2026, 1, 1))
    found = [next(slots) for _ in range(40)]
    gaps = {after - before for before, after in pairwise(found)}
    assert gaps == {timedelta(minutes=minutes)}


@pytest.mark.parametrize("seconds", [90, 7 * 60, 90 * 60, 5 * 3600, 2 * 86400])
def test_what_a_crontab_cannot_say_is_refused(seconds: int) -> None:
    with pytest.raises(UsageError, match="cannot say every") as caught:
        crontab.timetable(seconds, MARK)
    assert "take " in caught.value.message


def test_other_entries_stay_as_they_are_to_the_byte() -> None:
    first = crontab.entry("* * * * *", Path("/a/50%/" + MARK + ".sh"), Path("/a"), MARK)
    both = crontab.with_entry(OTHERS, MARK, first)
    assert both == OTHERS + first and b"50\\%" in first
    second = crontab.entry("1-59/2 * * * *", Path("/b/" + MARK + ".sh"), Path("/b"), MARK)
    other = crontab.entry("* * * * *", Path("/c/another.sh"), Path("/c"), "another")
    three = crontab.with_entry(both + other, MARK, second)
    assert three == OTHERS + other + second
    assert crontab.fields_in(three, MARK) == "1-59/2 * * * *"
    assert crontab.without(crontab.without(three, MARK), "another") == OTHERS


@given(st.binary(max_size=200).map(lambda data: data + b"\n"))
def test_whatever_else_is_in_it_comes_back(text: bytes) -> None:
    lines = crontab.entry("* * * * *", Path(f"/a/{MARK}.sh"), Path("/a"), MARK)
    assert crontab.without(crontab.with_entry(text, MARK, lines), MARK) == text


def test_somebody_elses_line_about_ours_is_not_ours() -> None:
    text = f"# why {MARK}.sh?\n0 4 * * * tar cf - /a/{MARK}.sh\n".encode()
    assert crontab.without(text, MARK) == text


def test_one_that_was_commented_out_is_not_installed_and_goes_too() -> None:
    text = b"#" + crontab.entry("* * * * *", Path(f"/a/{MARK}.sh"), Path("/a"), MARK).splitlines()[1] + b"\n"
    assert crontab.fields_in(text, MARK) is None
    assert crontab.without(text, MARK) == b""


def test_install_twice_is_once_and_remove_leaves_nothing(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.write_bytes(OTHERS)
    folder = workspace(tmp_path / "ws", monkeypatch)
    assert "every 5m" in typed("cron", "install")
    typed("cron", "install", "--every", "15m")
    text = table.read_bytes()
    assert text.startswith(OTHERS) and len(text[len(OTHERS) :].splitlines()) == 2
    assert b"-59/15 * * * * /bin/sh " in text
    shown = document("cron", "show")
    assert (shown["installed"], shown["by"], shown["every"]) == (True, "crontab", 900)
    assert shown["last"] is None and shown["next"]
    script = Path(shown["program"])
    assert script.stat().st_mode & 0o777 == 0o600
    monkeypatch.chdir(workspace(tmp_path / "other", monkeypatch))
    typed("cron", "install", "--every", "1h")
    assert len(table.read_bytes()[len(OTHERS) :].splitlines()) == 4
    typed("cron", "remove")
    assert table.read_bytes() == text
    monkeypatch.chdir(folder)
    assert typed("cron", "remove") == "removed\n"
    assert table.read_bytes() == OTHERS
    assert typed("cron", "remove") == "nothing was installed\n"
    assert not script.parent.exists() and not (folder / ".hpcrun/cron.json").exists()
    assert typed("cron", "show").startswith("not installed")


def test_an_empty_crontab_is_none_again(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace(tmp_path / "ws", monkeypatch)
    typed("cron", "install")
    assert table.exists()
    typed("cron", "remove")
    assert not table.exists()


def test_the_entry_works_from_a_path_that_is_hard_to_say(
    table: Path, weird_tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no more than what cron gives, the settings of the terminal are there again."""
    folder = workspace(weird_tmp_path / "100% 'mine'\nyours", monkeypatch)
    monkeypatch.setenv("HPCRUN_CONFIG_HOME", str(Path.home() / "50% of 'it'"))
    typed("cron", "install", "--every", "1m")
    done = as_cron_does(table)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    log = folder / ".hpcrun/logs/tick.log"
    assert log.read_text().endswith("exit code 0\n")
    assert log.stat().st_mode & 0o777 == 0o600 and log.parent.stat().st_mode & 0o777 == 0o700
    shown = document("cron", "show")
    assert shown["last"]["exit_code"] == 0 and shown["last"]["error"] is None
    assert "0 runs moved" in typed("cron", "show")
    shutil.rmtree(folder / ".hpcrun")
    done = as_cron_does(table)
    assert (done.returncode, done.stderr) == (0, ""), "a workspace that is gone is nobody's trouble"


def test_an_error_is_told_by_cron_once(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = workspace(tmp_path / "ws", monkeypatch)
    typed("cron", "install")
    (folder / ".hpcrun/history.db").write_bytes(b"not a database, and long enough to be looked at" * 99)
    first, second = as_cron_does(table), as_cron_does(table)
    assert first.returncode == second.returncode == 9
    assert "hpcrun: error" in first.stderr and second.stderr == ""
    assert (folder / ".hpcrun/logs/tick.log").read_text().count("error: ") == 2
    assert "error: " in typed("cron", "show")
    assert refused("tick", code=9), "to somebody who looks it is told each time"


def test_a_machine_without_crontab_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = workspace(tmp_path / "ws", monkeypatch)
    programs = tmp_path / "few"
    programs.mkdir()
    for name in ("sh", "dd"):
        (programs / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    monkeypatch.setenv("PATH", str(programs))
    assert "--systemd" in refused("cron", "install", code=8)
    assert typed("cron", "show").startswith("not installed")
    assert typed("cron", "remove") == "nothing was installed\n"
    assert not (folder / ".hpcrun/cron.json").exists()
    assert not list(Path(os.environ["XDG_CONFIG_HOME"]).rglob("*.sh"))


@pytest.mark.parametrize("every", ["0", "30s", "90m", "often", "-5m"])
def test_intervals_that_cannot_be(
    every: str, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace(tmp_path / "ws", monkeypatch)
    refused("cron", "install", f"--every={every}", code=2)
    assert not table.exists()


def test_a_crontab_that_may_not_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace(tmp_path / "ws", monkeypatch)
    words = "You (me) are not allowed to use this program (crontab)"
    stand_in(tmp_path, monkeypatch, "crontab", f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
    assert "not allowed" in refused("cron", "install", code=8)
    assert not list(Path(os.environ["XDG_CONFIG_HOME"]).rglob("*.sh"))


def test_what_another_machine_has_is_left_to_it(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = workspace(tmp_path / "ws", monkeypatch)
    typed("cron", "install")
    table.unlink()  # each login node has a crontab of its own, and all of them the home
    known = json.loads((folder / ".hpcrun/cron.json").read_text())
    (folder / ".hpcrun/cron.json").write_text(json.dumps({**known, "host": "login7"}))
    assert typed("cron", "show").startswith("installed on login7")
    assert "login7" in refused("cron", "remove", code=2)


SYSTEMCTL = '#!/bin/sh\nprintf "%s\\n" "$*" >>"$HOME/systemctl"\n'


def test_a_timer_of_systemds(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no systemd to be told here: what it would be told is looked at, and its units are checked."""
    stand_in(tmp_path, monkeypatch, "systemctl", SYSTEMCTL)
    workspace(tmp_path / "ws", monkeypatch)
    typed("cron", "install")
    assert "every 1h 30m" in typed("cron", "install", "--systemd", "--every", "90m")
    assert not table.exists(), "one way at a time"
    shown = document("cron", "show")
    assert (shown["by"], shown["every"]) == ("systemd", 5400)
    units = sorted(systemd.units_folder().iterdir())
    mark = units[0].stem
    assert [unit.name for unit in units] == [f"{mark}.service", f"{mark}.timer"]
    timer = units[1].read_text()
    assert "OnUnitActiveSec=5400\n" in timer and "WantedBy=timers.target" in timer
    assert f'ExecStart=/bin/sh "{shown["program"]}"\n' in units[0].read_text()
    typed("cron", "remove")
    assert not list(systemd.units_folder().iterdir())
    told = (Path.home() / "systemctl").read_text().splitlines()
    assert told[:3] == [
        "--user daemon-reload",
        f"--user enable {mark}.timer",
        f"--user restart {mark}.timer",
    ]
    assert told[3:] == [f"--user disable --now {mark}.timer", "--user daemon-reload"]


def test_systemd_that_does_not_answer_leaves_all_as_it_was(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace(tmp_path / "ws", monkeypatch)
    typed("cron", "install")
    before = table.read_bytes()
    words = "Failed to connect to bus: No medium found"
    stand_in(tmp_path, monkeypatch, "systemctl", f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
    assert words in refused("cron", "install", "--systemd", code=8)
    assert table.read_bytes() == before and not list(systemd.units_folder().iterdir())
    assert document("cron", "show")["by"] == "crontab"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("whose", [(), ("--user",)])
def test_systemd_takes_the_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: tuple[str, ...]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    program = tmp_path / "100% of $it \"here\" 'there' \\ \\x41.sh"
    service, timer = systemd.units(program, tmp_path / "ws 50%", 300)
    for name, text in (("hpcrun-a.service", service), ("hpcrun-a.timer", timer)):
        (tmp_path / name).write_text(text)
    files = [str(tmp_path / "hpcrun-a.timer"), str(tmp_path / "hpcrun-a.service")]
    done = subprocess.run(
        ["systemd-analyze", *whose, "verify", "--man=no", *files], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and "hpcrun-a" not in done.stderr, done.stderr


def test_whether_a_daemon_runs(tmp_path: Path) -> None:
    for pid, name in (("1", "systemd"), ("7", "bash")):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "comm").write_text(f"{name}\n")
    (tmp_path / "meminfo").touch()
    known = os.getuid() == 0
    assert daemon_runs(tmp_path) is (False if known else None)
    (tmp_path / "9").mkdir()
    (tmp_path / "9" / "comm").write_text("crond\n")
    assert daemon_runs(tmp_path) is (True if known else None)
    assert daemon_runs(tmp_path / "none") is None


def test_a_log_is_put_aside_when_it_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hpcrun.engine import ticked
    from hpcrun.history.paths import WorkspacePaths

    paths = WorkspacePaths(workspace(tmp_path / "ws", monkeypatch) / ".hpcrun")
    monkeypatch.setattr(ticked, "LOG_SIZE", 200)
    for number in range(40):
        ticked.write_log(paths, [f"line {number}"])
    logs = sorted(path.name for path in paths.logs.iterdir() if not path.name.startswith("."))
    assert logs == ["tick.log", *(f"tick.log.{n}" for n in range(1, ticked.OLD_LOGS + 1))]
    kept = [paths.logs / name for name in reversed(logs)]
    lines = [line.split()[-1] for path in kept for line in path.read_text().splitlines()]
    assert lines == [str(n) for n in range(40 - len(lines), 40)], "the newest, in their order"
    assert all(path.stat().st_size <= 200 and path.stat().st_mode & 0o777 == 0o600 for path in kept)


def test_a_tick_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that never answers; whatever else would go on with the next site does not."""
    folder = workspace(tmp_path / "ws", monkeypatch)
    (folder / "site_configs").mkdir()
    (folder / "site_configs/slow.yaml").write_text("scheduler: {type: slurm}\ndefault_partition: main\n")
    began = Path.home() / "began"
    stand_in(tmp_path, monkeypatch, "sbatch", "#!/bin/sh\necho 1\n")
    for name in ("squeue", "sacct", "scontrol"):
        stand_in(tmp_path, monkeypatch, name, f"#!/bin/sh\necho $$ >>'{began}'\nexec sleep 600\n")
    argv = [sys.executable, "-m", "hpcrun"]
    done = subprocess.run(
        [*argv, "run", "-t", "slow", "--", "true"], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*argv, "tick", "--limit", "2s"], capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stdout) == (8, ""), done.stderr
    assert "took longer than 2s" in done.stderr
    assert began.exists() and not any(Path(f"/proc/{pid}").exists() for pid in began.read_text().split())
    assert "took longer" in typed("cron", "show")
    assert hpcrun("tick", "--limit", "0").exit_code == 2
