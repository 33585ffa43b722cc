"""One host of the cluster: started from outside, entered by nsenter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.cluster import procs
from tests.cluster.instance import Instance
from tests.cluster.options import address
from tests.cluster.procs import ClusterError, CommandError, Process, call, wait_for

_PLAIN_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
_ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class HostProcess:
    """A command running in a host.  Signals reach the command itself.

    What Popen started is nsenter, which waits outside for the command within: a
    signal to the former would leave the latter running.
    """

    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self.popen = popen
        self._inner: Process | None = None

    @property
    def returncode(self) -> int | None:
        """As of Popen: None while running, -N when ended by signal N."""
        return self.popen.poll()

    @property
    def inner(self) -> Process:
        """The command itself, as this machine sees it; leader of its own session."""
        if self._inner is None:
            wait_for(self._find, 10, "the command to start in its host")
        if self._inner is None:
            raise ProcessLookupError(f"{self.popen.args!r} has ended already")
        return self._inner

    def _find(self) -> bool:
        for pid in procs.children(self.popen.pid):
            with suppress(ProcessLookupError):
                self._inner = Process.of(pid)
        return self._inner is not None or self.popen.poll() is not None

    def send_signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to the command alone, as kill does."""
        with suppress(ProcessLookupError):
            self.inner.signal(number)

    def interrupt(self) -> None:
        """Send SIGINT to the command and all its group, as Ctrl-C at a terminal does."""
        self._signal_group(signal.SIGINT)

    def kill(self) -> None:
        """End the command and its process group at once, and wait for that."""
        self._signal_group(signal.SIGKILL)
        self.popen.wait(10)
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if self.inner.alive():
                os.killpg(self.inner.pid, number)

    def wait(self, timeout: float = 60) -> int:
        """Wait for the end; the return code."""
        return self.popen.wait(timeout)

    def communicate(self, stdin: str | None = None, timeout: float = 60) -> tuple[str, str]:
        """As of Popen; on a timeout the command is killed before the error is raised."""
        try:
            return self.popen.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


class Host:
    """A host of a running cluster, by its pid 1."""

    def __init__(self, name: str, instance: Instance) -> None:
        self.name = name
        self.instance = instance

    @property
    def init(self) -> Process:
        """The host's pid 1, as this machine sees it."""
        return self.instance.inner[self.name]

    @property
    def root(self) -> Path:
        """The host's file system from outside; absolute links in it lead astray."""
        return Path(f"/proc/{self.init.pid}/root")

    def argv(self, argv: Sequence[str], user: str, cwd: str | None) -> list[str]:
        """What to execute on this machine so that argv runs in the host as user."""
        if not self.init.alive():
            raise ClusterError(f"host {self.name} is down")
        enter = ["nsenter", "--target", str(self.init.pid)]
        enter += ["--mount", "--uts", "--ipc", "--net", "--pid", "--"]
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        where = ["env", f"--chdir={cwd or home_of(user)}"]
        return [*enter, *become, *where, *argv]

    def popen(
        self,
        argv: Sequence[str],
        *,
        user: str = "alice",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        venv: bool = False,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
    ) -> HostProcess:
        """Start argv; cwd is the user's home by default, env is added to a bare one."""
        entered = self.argv(["setsid", *argv], user, cwd)
        # Handed over as an environment, not as arguments of env(1), which everybody
        # on the machine could read for as long as the command runs.
        environment = {**login_environment(user, venv=venv), **(env or {})}
        return HostProcess(
            subprocess.Popen(
                entered,
                env=environment,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                text=True,
                errors="replace",
                start_new_session=True,
                umask=0o022,
            )
        )

    def run(
        self,
        argv: Sequence[str],
        *,
        user: str = "alice",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        venv: bool = False,
        stdin: str | None = None,
        timeout: float = 60,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run argv to its end; a failure raises CommandError unless check is False."""
        given = subprocess.DEVNULL if stdin is None else subprocess.PIPE
        process = self.popen(argv, user=user, cwd=cwd, env=env, venv=venv, stdin=given)
        try:
            out, err = process.communicate(stdin, timeout=timeout)
        except BaseException:
            process.kill()  # Ctrl-C in a test must not leave it running in the host
            raise
        code = process.wait()
        if check and code != 0:
            raise CommandError(code, list(argv), out, err)
        return subprocess.CompletedProcess(list(argv), code, out, err)

    def processes(self, name: str | None = None, uid: int | None = None) -> list[Process]:
        """Processes in the host, oldest first, by command name (15 bytes) and uid."""
        inside = procs.namespace(self.init.pid, "pid")
        found = []
        for pid in procs.all_pids():
            if procs.namespace(pid, "pid") != inside:
                continue
            if name in (None, procs.name(pid)) and uid in (None, procs.owner(pid)):
                with suppress(ProcessLookupError):
                    found.append(Process.of(pid))
        return sorted(found, key=lambda process: (process.started, process.pid))


def home_of(user: str) -> str:
    """Home folder of a user inside the hosts."""
    return "/root" if user == "root" else f"/home/{user}"


def login_environment(user: str, *, venv: bool = False) -> dict[str, str]:
    """What a fresh login gives; venv puts the tests' own virtual environment in PATH."""
    path = _ROOT_PATH if user == "root" else _PLAIN_PATH
    return {
        "HOME": home_of(user),
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/bash",
        "PATH": f"{sys.prefix}/bin:{path}" if venv else path,
        "LANG": "C.UTF-8",
    }


def launch(
    name: str, instance: Instance, lower: Path, binds: Sequence[tuple[str, str, str]], log: Path
) -> subprocess.Popen[bytes]:
    """Start the process that becomes a host; its network is still to be plugged in."""
    folder = instance.folder / "hosts" / name
    script = Path(__file__).with_name("host.sh")
    arguments = [str(folder), name, address(instance.number, name), str(lower)]
    arguments.append(str(instance.options.gpus))
    arguments += [word for bind in binds for word in bind]
    namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child"]
    # Unless it is to be kept, a host ends with the process (to be exact, the thread)
    # that booted it, even if that is killed outright.
    follow = [] if instance.owner is None else ["setpriv", "--pdeathsig=KILL"]
    with log.open("wb") as said:
        return subprocess.Popen(
            [*follow, "unshare", *namespaces, "sh", str(script), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env={"PATH": _ROOT_PATH},
            start_new_session=True,
        )


def plug_in(name: str, instance: Instance) -> None:
    """Lay the cable from the bridge to a host that was just launched."""
    holder = instance.outer[name].pid
    own = procs.namespace(os.getpid(), "net")
    wait_for(lambda: procs.namespace(holder, "net") != own, 10, f"{name} to have a network")
    link = instance.link(name)
    cable = ["ip", "link", "add", "name", link, "type", "veth"]
    call([*cable, "peer", "name", "eth0", "netns", str(holder)])
    call(["ip", "link", "set", "dev", link, "master", instance.bridge, "up"])


def find_init(name: str, instance: Instance, log: Path) -> Process:
    """Wait until a launched host is set up; its pid 1."""
    holder = instance.outer[name]

    def ready() -> bool:
        if not holder.alive():
            raise ClusterError(f"host {name} did not start: {log.read_text(errors='replace')}")
        return any(procs.name(child) == "tini" for child in procs.children(holder.pid))

    wait_for(ready, 30, f"host {name} to start (see {log})")
    return Process.of(procs.children(holder.pid)[0])
