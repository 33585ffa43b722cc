"""The daemons of the cluster, each to be started, stopped, continued and killed."""

from __future__ import annotations

import signal
import socket
from contextlib import suppress
from dataclasses import dataclass

from tests.cluster import procs
from tests.cluster.conf import LOGS
from tests.cluster.host import Host
from tests.cluster.options import address
from tests.cluster.procs import ClusterError, Process, wait_for

_MARIADB = (
    *("mariadbd", "--user=mysql", "--skip-networking", "--init-file=/etc/slurm/mariadb.sql"),
    # Its data lies in memory anyway and ends with the cluster.
    *("--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M"),
    f"--log-error={LOGS}/mariadb.log",
)

_ARGV: dict[str, tuple[str, ...]] = {
    "mariadbd": ("start-stop-daemon", "--start", "--background", "--exec", "/usr/sbin/mariadbd", "--",
                 *_MARIADB[1:]),
    "slurmdbd": ("slurmdbd",),
    "slurmctld": ("slurmctld",),
    "slurmd": ("slurmd",),
    "sshd": ("/usr/sbin/sshd", "-E", f"{LOGS}/sshd.log"),
}  # fmt: skip

_PORTS = {"slurmdbd": 6819, "slurmctld": 6817, "slurmd": 6818, "sshd": 22}


@dataclass(frozen=True)
class Daemon:
    """One daemon on one host.  Every method returns once its effect can be seen."""

    name: str
    host: Host

    def __post_init__(self) -> None:
        if self.name not in _ARGV:
            raise ClusterError(f"no daemon {self.name!r}; there are {', '.join(_ARGV)}")

    def process(self) -> Process | None:
        """The daemon's main process, or None when it does not run."""
        # The oldest of its name: what it forks (sshd a login, say) came later.
        return next(iter(self.host.processes(self.name)), None)

    def running(self) -> bool:
        """True when it runs and is not stopped."""
        process = self.process()
        return process is not None and procs.state(process.pid) not in ("T", "t")

    def stop(self) -> None:
        """SIGSTOP: it hangs, its connections stay open and unanswered."""
        process = self._demand()
        process.signal(signal.SIGSTOP)
        wait_for(lambda: procs.state(process.pid) == "T", 10, f"{self} to stop")

    def cont(self) -> None:
        """SIGCONT: it goes on; no harm when it was not stopped."""
        process = self._demand()
        process.signal(signal.SIGCONT)
        wait_for(lambda: procs.state(process.pid) != "T", 10, f"{self} to go on")

    def kill(self) -> None:
        """SIGKILL: it dies with no chance to save anything; no harm when it is dead."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM: it saves its state and ends."""
        self._end(signal.SIGTERM)

    def start(self, *arguments: str) -> None:
        """Start it, or continue it when it is stopped, and wait until it answers."""
        self.launch(*arguments)
        self.wait_ready()

    def restart(self, *arguments: str) -> None:
        """End it in good order and start it again."""
        self.terminate()
        with suppress(ClusterError):  # what it had just forked bears its name for a moment
            wait_for(lambda: self.process() is None, 2, f"{self} to be gone")
        self.start(*arguments)

    def launch(self, *arguments: str) -> None:
        """Start it without waiting for an answer."""
        if self.process() is not None:
            self.cont()
            return
        self.host.run([*_ARGV[self.name], *arguments], user="root", cwd="/", timeout=60)

    def wait_ready(self, timeout: float = 30) -> None:
        """Wait until it answers."""
        wait_for(self._answers, timeout, f"{self} to answer")

    def _answers(self) -> bool:
        if self.process() is None:
            return False
        if self.name == "mariadbd":
            return (self.host.root / "run/mysqld/mysqld.sock").exists()
        where = address(self.host.instance.number, self.host.name)
        with socket.create_connection((where, _PORTS[self.name]), timeout=1):
            return True

    def _demand(self) -> Process:
        process = self.process()
        if process is None:
            raise ClusterError(f"{self} does not run")
        return process

    def _end(self, number: signal.Signals) -> None:
        process = self.process()
        if process is None:
            return
        process.signal(number)
        process.signal(signal.SIGCONT)  # a stopped one would not see the signal before
        wait_for(lambda: not process.alive(), 90, f"{self} to end")

    def __str__(self) -> str:
        return f"{self.name} on {self.host.name}"
