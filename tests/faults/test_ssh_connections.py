"""One connection a host, whatever happens to it: storms, dead masters, full houses, black holes, refusals."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest

from hpcrun.errors import CommandError, LoginRequired, UnreachableError
from hpcrun.shells.base import Result
from hpcrun.shells.local import LocalShell
from hpcrun.shells.openssh import OpenSshShell
from hpcrun.shells.ssh_files import _place
from tests.cluster.cluster import Cluster
from tests.cluster.conf import ONE_TIME_CODE_SSHD
from tests.ssh_help import SshdLog, connection, master_pid, private_runtime, ssh_config, through

pytestmark = pytest.mark.cluster


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from private_runtime(monkeypatch)


@pytest.fixture
def config(cluster: Cluster, tmp_path: Path) -> Path:
    return ssh_config(cluster, tmp_path)


def at_once(count: int, work: Callable[[int], Result]) -> list[Result | Exception]:
    """What came of so many calls, all begun in the same moment."""
    barrier = threading.Barrier(count)

    def one(number: int) -> Result | Exception:
        barrier.wait(20)
        try:
            return work(number)
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def within(seconds: float, work: Callable[[], object]) -> None:
    began = time.monotonic()
    work()
    assert time.monotonic() - began < seconds


def refused(shell: OpenSshShell, kind: type[CommandError] = UnreachableError) -> CommandError:
    with pytest.raises(kind) as caught:
        shell.run(["true"], timeout=20)
    assert type(caught.value) is kind
    return caught.value


# -- one connection ------------------------------------------------------------

ASK = """
import sys, time
from pathlib import Path
from hpcrun.models.site import Connection
from hpcrun.shells import remote_shell
shell = remote_shell(Connection(type="openssh", host="login", ssh_config=sys.argv[1]))
Path(sys.argv[2], sys.argv[3]).touch()
while not Path(sys.argv[2], "go").exists():
    time.sleep(0.005)
print(shell.run(["echo", sys.argv[3]], timeout=60).check().stdout, end="")
"""


def test_twenty_processes_at_once_make_one_connection(cluster: Cluster, config: Path, tmp_path: Path) -> None:
    log = SshdLog(cluster, "MaxStartups 2:100:2")
    barrier = tmp_path / "barrier"
    barrier.mkdir()
    argv = [sys.executable, "-c", ASK, str(config), str(barrier)]
    processes = [
        subprocess.Popen([*argv, str(number)], stdout=subprocess.PIPE, text=True) for number in range(20)
    ]
    cluster.wait_for(lambda: len(list(barrier.iterdir())) == 20, 60, "twenty processes")
    (barrier / "go").touch()
    assert [process.communicate(timeout=90)[0] for process in processes] == [f"{n}\n" for n in range(20)]
    assert (log.connections, log.dropped, log.logins) == (1, 0, 1)


def test_where_the_host_has_too_many_guests_it_is_asked_again_in_a_while(
    cluster: Cluster, config: Path
) -> None:
    log = SshdLog(cluster, "MaxStartups 2:100:2", "LoginGraceTime 60")
    guests: list[socket.socket] = []

    def two_are_in() -> bool:
        guest = socket.create_connection((cluster.ssh_address, 22))
        guests.append(guest)
        if not guest.recv(100).startswith(b"SSH-"):
            guests.pop().close()
        return len(guests) == 2

    cluster.wait_for(two_are_in, 20, "two guests to be let in")
    before = log.dropped

    def leave() -> None:
        cluster.wait_for(lambda: log.dropped > before, 20, "somebody to be turned away")
        for guest in guests:
            guest.close()

    leaving = threading.Thread(target=leave)
    leaving.start()
    assert OpenSshShell(connection(config)).run(["echo", "in"], timeout=20).stdout == "in\n"
    leaving.join()
    assert log.logins == 1


@pytest.mark.parametrize("users_shell", ["/bin/bash", "/usr/sbin/nologin"])
def test_a_master_that_died_is_replaced_and_the_question_put_again(
    cluster: Cluster, config: Path, users_shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", users_shell)
    log = SshdLog(cluster)
    shell = OpenSshShell(connection(config))
    assert shell.run(["echo", "first"], timeout=20).stdout == "first\n"
    os.kill(master_pid(shell.master.socket), signal.SIGKILL)
    assert shell.master.socket.exists()  # and nobody listens
    data, got = os.urandom(3_000_000), bytearray()
    told: list[int] = []
    result = shell.script("cat", timeout=60, stdin=BytesIO(data), sink=got.extend, progress=told.append)
    assert result.ok
    assert (bytes(got), sum(told)) == (data, len(data))
    assert log.logins == 2


def test_rsync_too_gets_a_master_that_lives(cluster: Cluster, config: Path, tmp_path: Path) -> None:
    shell = OpenSshShell(connection(config))
    shell.run(["true"], timeout=20)
    os.kill(master_pid(shell.master.socket), signal.SIGKILL)
    rsync(shell, tmp_path).check()


def rsync(shell: OpenSshShell, folder: Path, name: str = "/etc/hostname") -> Result:
    with shell.rsh() as rsh:
        words = " ".join(f"'{word}'" if "'" not in word else f'"{word}"' for word in rsh.argv)
        argv = ["rsync", "-e", words, f"{rsh.host}:{name}", str(folder / "fetched")]
        return LocalShell().run(argv, timeout=60, env=rsh.env)


@pytest.mark.parametrize("most", [10, 2])
def test_more_commands_than_channels_wait_for_one(cluster: Cluster, config: Path, most: int) -> None:
    log = SshdLog(cluster, f"MaxSessions {most}")

    def ask(number: int) -> Result:
        shell, data = OpenSshShell(connection(config)), f"{number} ".encode() * 20_000
        source = "cat >/tmp/part-$1; sleep 0.3; cat /tmp/part-$1"
        got = bytearray()
        result = shell.script(source, [f"{number}"], timeout=60, stdin=BytesIO(data), sink=got.extend)
        assert bytes(got) == data
        return result

    results = at_once(25, ask)
    assert [each for each in results if not (isinstance(each, Result) and each.rc == 0)] == []
    assert log.connections == 1


def test_without_a_channel_until_the_deadline_it_says_so(cluster: Cluster, config: Path) -> None:
    SshdLog(cluster, "MaxSessions 1")
    shell = OpenSshShell(connection(config))
    shell.run(["true"], timeout=20)
    holding = threading.Thread(target=lambda: shell.script("touch here; sleep 4", timeout=20))
    holding.start()
    cluster.wait_for(lambda: (cluster.home() / "here").exists(), 20, "the channel to be taken")
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="no channel free within 2 s"):
        OpenSshShell(connection(config)).run(["touch", "there"], timeout=2)
    assert time.monotonic() - began < 3
    holding.join()
    assert not (cluster.home() / "there").exists()


# -- the user's own ------------------------------------------------------------


def test_a_master_of_the_users_own_is_used_and_left_alone(
    cluster: Cluster, tmp_path: Path, runtime: Path
) -> None:
    config = ssh_config(cluster, tmp_path, ControlPath=runtime / "cm-%r@%h")
    log = SshdLog(cluster)
    mine = ["ssh", "-F", str(config), "-M", "-N", "-f", "-o", "ControlPersist=60", "login"]
    subprocess.run(mine, check=True, timeout=20, stderr=subprocess.DEVNULL)
    shell = OpenSshShell(connection(config, two_factor=True))
    assert shell.run(["hostname"], timeout=20).stdout == "login\n"
    assert shell.master.is_the_users_own
    rsync(shell, tmp_path).check()
    assert not shell.master.end()
    assert shell.run(["hostname"], timeout=20).ok
    assert log.connections == 1
    os.kill(master_pid(shell.master.socket), signal.SIGKILL)
    refused(shell, LoginRequired)


@pytest.mark.parametrize("jump", [None, "ctl"])
def test_no_master_keeps_our_pipes_open(
    cluster: Cluster, tmp_path: Path, runtime: Path, jump: str | None
) -> None:
    cluster.daemon("sshd", "ctl").start()
    config = ssh_config(cluster, tmp_path)
    always = f"    ControlMaster auto\n    ControlPersist 60\n    ControlPath {runtime}/own-%n\n"
    config.write_text(config.read_text() + always + "    LocalForward 54321 127.0.0.1:1\n")
    shell = OpenSshShell(connection(config, jump=jump))
    within(10, lambda: shell.run(["hostname"], timeout=60).check())
    within(5, lambda: shell.run(["hostname"], timeout=60).check())


def test_what_else_the_users_configuration_has_for_people_does_no_harm(
    cluster: Cluster, tmp_path: Path
) -> None:
    config = ssh_config(
        cluster, tmp_path, RemoteCommand="tmux attach", RequestTTY="yes", LocalForward="54321 127.0.0.1:1"
    )
    shell = OpenSshShell(connection(config))
    assert shell.run(["hostname"], timeout=20).stdout == "login\n"
    with socket.socket() as port:
        port.bind(("127.0.0.1", 54321))  # it was not forwarded


def test_a_configuration_in_a_strange_place_is_found(cluster: Cluster, weird_tmp_path: Path) -> None:
    config = ssh_config(cluster, weird_tmp_path / "[a]*?")
    assert OpenSshShell(connection(config)).run(["hostname"], timeout=20).stdout == "login\n"


def test_a_configuration_that_is_not_there_is_no_configuration(tmp_path: Path) -> None:
    error = refused(OpenSshShell(connection(tmp_path / "gone")))
    assert f"names {tmp_path / 'gone'}, and there is no such file" in error.message


def test_a_configuration_that_ssh_does_not_read(cluster: Cluster, tmp_path: Path) -> None:
    config = ssh_config(cluster, tmp_path, NoSuchOption="yes")
    assert "nosuchoption" in refused(OpenSshShell(connection(config))).message.lower()


def test_user_and_port_are_the_connections(cluster: Cluster, tmp_path: Path) -> None:
    with cluster.relay() as relay:
        changes = {**through(relay, cluster), "Port": 1, "User": "nobody"}
        config = ssh_config(cluster, tmp_path, **changes)
        shell = OpenSshShell(connection(config, user="alice", port=relay.port))
        assert shell.run(["id", "-un"], timeout=20).stdout == "alice\n"
        rsync(shell, tmp_path).check()


@pytest.mark.parametrize("where", ["site", "users"])
def test_by_way_of_a_jump_host(cluster: Cluster, tmp_path: Path, where: str) -> None:
    cluster.daemon("sshd", "ctl").start()
    changes = {} if where == "site" else {"ProxyJump": "alice@ctl:22"}
    config = ssh_config(cluster, tmp_path, **changes)
    shell = OpenSshShell(connection(config, jump="ctl" if where == "site" else None))
    came_from = shell.run(["sh", "-c", "echo $SSH_CLIENT"], timeout=20).stdout
    assert came_from.split()[0] == cluster.address("ctl")
    rsync(shell, tmp_path).check()


# -- black holes ---------------------------------------------------------------


def test_a_host_that_never_answers_is_given_up_in_time(cluster: Cluster, tmp_path: Path) -> None:
    with cluster.relay(black_hole=True) as relay:
        config = ssh_config(cluster, tmp_path, **through(relay, cluster))
        shells = [OpenSshShell(connection(config, connect_timeout=2)) for _ in range(6)]
        began = time.monotonic()
        errors = at_once(6, lambda number: shells[number].run(["true"], timeout=60))
        assert time.monotonic() - began < 2 + 2
        assert all(isinstance(error, UnreachableError) and "timed out" in str(error) for error in errors)
        assert relay.connections == 1  # whoever waited was told what came of it


def test_a_host_without_a_network_is_given_up_in_time(cluster: Cluster, config: Path) -> None:
    cluster.link_down("login")
    shell = OpenSshShell(connection(config, connect_timeout=2))
    within(5, lambda: refused(shell))


def test_a_host_that_falls_silent_after_a_word_is_given_up_in_time(cluster: Cluster, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            guest, _ = server.accept()
            guest.sendall(b"SSH-2.0-Mute\r\n")
            while guest.recv(4096):
                pass
            guest.close()

        greeting = threading.Thread(target=greet)
        greeting.start()
        config = ssh_config(cluster, tmp_path, HostName="127.0.0.1", Port=server.getsockname()[1])
        shell = OpenSshShell(connection(config, connect_timeout=2))
        began = time.monotonic()
        assert "timed out" in refused(shell).message
        assert 2 < time.monotonic() - began < 2 + 15 + 3
        greeting.join(5)
        assert not greeting.is_alive()  # and ssh has let go of it


def test_a_network_that_fails_in_the_middle_of_a_command(cluster: Cluster, config: Path) -> None:
    log = SshdLog(cluster)
    shell = OpenSshShell(connection(config))
    shell.run(["true"], timeout=20)

    def cut() -> None:
        cluster.wait_for(lambda: (cluster.home() / "begun").exists(), 20, "the command")
        cluster.link_down("login")

    cutting = threading.Thread(target=cut)
    cutting.start()
    began = time.monotonic()
    result = shell.script("touch begun; sleep 1; echo done", timeout=4)
    assert time.monotonic() - began < 4 + 3
    cutting.join()
    assert result.timed_out
    assert result.stdout == ""
    cluster.link_up("login")
    assert shell.run(["hostname"], timeout=20).stdout == "login\n"
    assert log.connections == 1  # a short while without a network costs no connection, and no code


@pytest.mark.slow
def test_a_connection_that_is_silent_for_long_is_given_up(cluster: Cluster, config: Path) -> None:
    shell = OpenSshShell(connection(config))
    shell.run(["true"], timeout=20)
    cut: list[float] = []

    def cut_off() -> None:
        cluster.wait_for(lambda: (cluster.home() / "begun").exists(), 20, "the command")
        cluster.link_down("login")
        cut.append(time.monotonic())

    cutting = threading.Thread(target=cut_off)
    cutting.start()
    result = shell.script("touch begun; sleep 300", timeout=300)
    assert 30 < time.monotonic() - cut[0] < 75  # three times fifteen seconds, and what comes with them
    cutting.join()
    assert (result.rc, result.lost) == (None, "the connection to login broke")
    cluster.link_up("login")
    assert shell.run(["hostname"], timeout=20).stdout == "login\n"


def test_a_connection_that_is_cut_leaves_the_outcome_open(cluster: Cluster, tmp_path: Path) -> None:
    with cluster.relay() as relay:
        shell = OpenSshShell(connection(ssh_config(cluster, tmp_path, **through(relay, cluster))))
        shell.run(["true"], timeout=20)
        relay.cut_down = 100_000
        got = bytearray()
        result = shell.script("head -c 3000000 /dev/zero; touch all", timeout=20, sink=got.extend)
        assert (result.rc, result.lost) == (None, "the connection to login broke")
        assert 0 < len(got) < 3_000_000
        assert "was cut off" in result.describe()
        relay.cut_down = None
        assert shell.run(["hostname"], timeout=20).stdout == "login\n"
        assert relay.connections == 2


# -- not let in ----------------------------------------------------------------


def test_a_refused_login_is_tried_once_whoever_asks(cluster: Cluster, tmp_path: Path) -> None:
    (cluster.home() / ".ssh/authorized_keys").unlink()
    log = SshdLog(cluster)
    with cluster.relay(latency=0.1) as relay:
        config = ssh_config(cluster, tmp_path, **through(relay, cluster))
        errors = at_once(5, lambda _: OpenSshShell(connection(config)).run(["true"], timeout=20))
    assert {type(error) for error in errors} == {UnreachableError}
    assert {str(error) for error in errors} == {str(errors[0])}
    assert "refused the login: no key of yours was taken (publickey)" in str(errors[0])
    assert "ssh -v login" in str(errors[0])
    assert (log.connections, log.logins) == (1, 0)


def test_a_new_attempt_is_made_when_somebody_asks_again(cluster: Cluster, config: Path) -> None:
    keys = cluster.home() / ".ssh/authorized_keys"
    keys.rename(keys.with_name("away"))
    shell = OpenSshShell(connection(config))
    refused(shell)
    keys.with_name("away").rename(keys)
    assert shell.run(["hostname"], timeout=20).ok


def test_a_site_with_two_factors_is_not_even_knocked_at(cluster: Cluster, config: Path) -> None:
    log = SshdLog(cluster)
    shell = OpenSshShell(connection(config, two_factor=True))
    within(2, lambda: refused(shell, LoginRequired))
    error = refused(shell, LoginRequired)
    assert error.message == "login is not open: hpcrun login login"
    assert error.exit_code == 12
    with pytest.raises(LoginRequired), shell.rsh():
        pass
    assert log.connections == 0


def test_a_site_that_asks_for_a_code_unexpectedly_is_tried_once(cluster: Cluster, config: Path) -> None:
    cluster.ask_one_time_code("123456")
    log = SshdLog(cluster, *ONE_TIME_CODE_SSHD)
    error = refused(OpenSshShell(connection(config)), LoginRequired)
    assert "keyboard-interactive" in error.message
    assert "hpcrun login login" in str(error)
    assert (log.connections, log.logins) == (1, 0)


def test_no_window_is_put_up_either(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.ask_one_time_code("123456")
    asked = tmp_path / "asked"
    program = tmp_path / "askpass"
    program.write_text(f"#!/bin/sh\ntouch {asked}\necho 123456\n")
    program.chmod(0o755)
    monkeypatch.setenv("SSH_ASKPASS", str(program))
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    monkeypatch.setenv("DISPLAY", ":1")
    nested = f"ssh -F {ssh_config(cluster, tmp_path)} -W %h:%p login"
    refused(OpenSshShell(connection(ssh_config(cluster, tmp_path, ProxyCommand=nested))))
    refused(OpenSshShell(connection(ssh_config(cluster, tmp_path))), LoginRequired)
    assert not asked.exists()


def test_a_login_shell_that_runs_nothing_is_said_to_be_one(cluster: Cluster, config: Path) -> None:
    SshdLog(cluster, "ForceCommand echo This account is closed.; false")
    error = refused(OpenSshShell(connection(config)))
    assert "did not carry out what it was sent: This account is closed." in error.message


# -- ends ----------------------------------------------------------------------


def ssh_children() -> list[str]:
    """The ssh programs that this process has started and that still run."""
    listed = subprocess.run(["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return [line for line in listed.stdout.splitlines() if line.startswith("ssh ")]


def test_ctrl_c_ends_what_was_asked_and_leaves_no_thread(cluster: Cluster, config: Path) -> None:
    shell = OpenSshShell(connection(config))
    shell.run(["true"], timeout=20)
    threads = set(threading.enumerate())

    def interrupt() -> None:
        cluster.wait_for(lambda: (cluster.home() / "begun").exists(), 20, "the command")
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        shell.script("touch begun; sleep 60; touch late", timeout=60)
    assert time.monotonic() - began < 10
    interrupting.join()
    cluster.wait_for(lambda: set(threading.enumerate()) == threads, 5, "threads that have ended to be gone")
    assert ssh_children() == []
    assert shell.run(["hostname"], timeout=20).ok


def test_a_sink_that_fails_ends_what_was_asked(cluster: Cluster, config: Path) -> None:
    def full(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        OpenSshShell(connection(config)).script("echo x; sleep 60", timeout=60, sink=full)
    assert ssh_children() == []


def test_a_command_that_outlives_its_deadline_is_ended_there_too(cluster: Cluster, config: Path) -> None:
    result = OpenSshShell(connection(config)).run(["sleep", "77"], timeout=1)
    assert result.timed_out
    assert 1 <= result.seconds < 4
    cluster.wait_for(lambda: not cluster.processes("login", "sleep", "alice"), 6, "sleep to be ended")


# -- environment and modes -----------------------------------------------------


def test_condas_libraries_reach_neither_ssh_nor_rsync(
    cluster: Cluster, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conda = tmp_path / "conda/lib"
    conda.mkdir(parents=True)
    for name in ("libcrypto.so.3", "libz.so.1", "libpopt.so.0"):
        (conda / name).write_text("no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(conda))
    assert subprocess.run(["ssh", "-V"], capture_output=True).returncode != 0
    assert subprocess.run(["rsync", "--version"], capture_output=True).returncode != 0
    shell = OpenSshShell(connection(config))
    assert shell.run(["hostname"], timeout=20).stdout == "login\n"
    rsync(shell, tmp_path).check()


def test_under_umask_0_everything_is_private(
    cluster: Cluster, config: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.umask(0)  # the tests' own environment puts it back
    shell = OpenSshShell(connection(config))
    shell.run(["hostname"], timeout=20).check()
    with pytest.raises(UnreachableError):
        OpenSshShell(connection(config, port=1)).run(["true"], timeout=20)
    found = {path.name: path.lstat().st_mode for path in (runtime / "hpcrun").rglob("*")}
    assert stat.S_IMODE((runtime / "hpcrun").stat().st_mode) == 0o700
    assert any(stat.S_ISSOCK(mode) for mode in found.values())
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}
    assert max(len(os.fsencode(path)) for path in (runtime / "hpcrun").iterdir()) < 80


def test_a_folder_that_somebody_else_has_made_is_not_used(
    cluster: Cluster, config: Path, runtime: Path
) -> None:
    (runtime / "hpcrun").mkdir(mode=0o755)
    with pytest.raises(CommandError, match="not a private folder of yours"):
        OpenSshShell(connection(config))


def test_cron_looks_where_the_terminal_does(runtime: Path) -> None:
    uid, gone = os.getuid(), runtime / "gone"
    mine, long = runtime / str(uid), runtime / ("long" * 20)
    mine.mkdir()
    long.mkdir()
    for told in (str(mine), None, str(gone), str(long)):
        assert _place(told, uid, runtime) == mine / "hpcrun"
    assert _place(None, uid, gone) == Path(f"/tmp/hpcrun-{uid}")
