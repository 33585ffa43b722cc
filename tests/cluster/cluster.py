"""`Cluster`: what tests hold in their hands."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from tests.cluster import boot, conf, image, instance, layout, procs, rootfs
from tests.cluster.daemons import Daemon
from tests.cluster.host import Host, HostProcess
from tests.cluster.instance import Instance
from tests.cluster.options import SHARED, Options, address
from tests.cluster.procs import ClusterError, Process, call
from tests.cluster.relay import Relay
from tests.cluster.reset import reset
from tests.cluster.rootfs import USERS, Say, say


class Cluster:
    """A running Slurm cluster.  Boot one with `Cluster.boot()`; `down()` removes it.

    One that is not kept also goes when this process ends, however it ends.
    """

    def __init__(self, found: Instance) -> None:
        self.instance = found
        self.options = found.options
        self.lower = Path(found.lower)
        self.hosts = {name: Host(name, found) for name in found.options.hosts}
        self.hidden: list[tuple[str, str]] = []
        self._holders: list[subprocess.Popen[bytes]] = []
        self._started: list[HostProcess] = []

    @classmethod
    def boot(cls, options: Options | None = None, *, keep: bool = False, say: Say = say) -> Cluster:
        """Bring up a cluster (2 to 5 s; minutes the first time ever, to build its root)."""
        options = options or Options()
        rootfs.ensure_host_packages(say)
        lower = rootfs.rootfs(options.slurm, say)
        images = image.images(lower, say)
        cluster = cls(instance.allocate(options, lower, keep))
        if not keep:
            _take_down_at_exit(cluster)
        try:
            say(f"booting cluster {cluster.number}: {', '.join(options.hosts)}")
            layout.prepare(cluster.instance, lower)
            cluster._holders = boot.start_hosts(cluster.instance, lower, images)
            boot.start_slurm(cluster.instance, cluster.hosts, say)
        except BaseException as error:
            logs = cluster.save_logs(layout.ARTIFACTS / f"boot-{cluster.number}")
            cluster.down()
            if isinstance(error, Exception):
                raise ClusterError(f"the cluster did not come up (logs: {logs}): {error}") from error
            raise
        return cluster

    @classmethod
    def attach(cls, number: int | None = None) -> Cluster:
        """The kept cluster with this number, or the only one there is."""
        found = [
            each for each in instance.instances()
            if not each.stale() and (each.number == number or (number is None and each.owner is None))
        ]  # fmt: skip
        if len(found) != 1:
            raise ClusterError(
                "no such cluster is up" if not found else
                f"several are up, name one of {', '.join(str(each.number) for each in found)}"
            )  # fmt: skip
        return cls(found[0])

    def down(self) -> None:
        """End every process and remove everything; fine to call twice."""
        instance.destroy(self.instance)
        for holder in self._holders:
            holder.wait(10)
        self.kill_started()

    def reboot(self) -> None:
        """Take the cluster down and boot another with the same options in its place."""
        self.down()
        fresh = Cluster.boot(self.options, keep=self.instance.owner is None)
        self.instance, self.hosts, self._holders = fresh.instance, fresh.hosts, fresh._holders
        self.hidden.clear()

    # -- running things -------------------------------------------------------

    def run(
        self,
        host: str,
        argv: Sequence[str],
        user: str = "alice",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float = 60,
        check: bool = True,
        venv: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run argv on a host as user, as after a fresh login; CommandError if it fails."""
        return self.hosts[host].run(
            argv, user=user, cwd=cwd, env=env, stdin=stdin, timeout=timeout, check=check, venv=venv
        )

    def popen(
        self,
        host: str,
        argv: Sequence[str],
        user: str = "alice",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
        venv: bool = False,
    ) -> HostProcess:
        """Start argv on a host; reset() and down() end it if it still runs then."""
        process = self.hosts[host].popen(
            argv, user=user, cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=stderr, venv=venv
        )
        self._started.append(process)
        return process

    def processes(self, host: str, name: str | None = None, user: str | None = None) -> list[Process]:
        """Processes on a host, oldest first: `cluster.processes("node1", "slurmstepd")`."""
        uid = None if user is None else 0 if user == "root" else USERS[user]
        return self.hosts[host].processes(name, uid)

    def kill_started(self) -> None:
        """End whatever popen() started and is still running."""
        for process in self._started:
            process.kill()
        self._started.clear()

    # -- files ----------------------------------------------------------------

    @property
    def number(self) -> int:
        """The cluster's number on this machine."""
        return self.instance.number

    @property
    def folder(self) -> Path:
        """The cluster's own folder on this machine."""
        return self.instance.folder

    @property
    def logs(self) -> Path:
        """The folder with every daemon's log."""
        return self.folder / "logs"

    @property
    def sif(self) -> str:
        """Path, inside every host, of an image with BusyBox, Bash and Python 3."""
        return f"{layout.IMAGES}/{image.NAME}"

    def home(self, user: str = "alice") -> Path:
        """Where /home/USER of the hosts lies on this machine."""
        return self.folder / "home" / user

    def outside(self, path: str, host: str = "login") -> Path:
        """Where a path of a host can be read and written from this machine."""
        top = f"/{path.strip('/').split('/')[0]}"
        shared = top in SHARED and not (top == "/home" and host in self.options.private_home)
        return (self.folder if shared else self.hosts[host].root) / path.lstrip("/")

    def chown(self, path: Path, user: str = "alice") -> None:
        """Give a file, or a folder with all in it, to a user of the cluster."""
        for each in (path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())):
            os.chown(each, USERS[user], USERS[user], follow_symlinks=False)

    def write(self, path: str, text: str, user: str = "alice", mode: int = 0o644, host: str = "login") -> str:
        """Write a file at a path of the hosts, new folders included, owned by user."""
        outside = self.outside(path, host)
        made = [each for each in (outside, *outside.parents) if not each.exists()]
        outside.parent.mkdir(parents=True, exist_ok=True)
        outside.write_text(text)
        outside.chmod(mode)
        for each in made:
            os.chown(each, USERS[user], USERS[user])
        return path

    def save_logs(self, into: Path) -> Path:
        """Copy every daemon's log to a folder of this machine."""
        into.mkdir(parents=True, exist_ok=True)
        for log in self.logs.glob("*.log"):
            shutil.copyfile(log, into / log.name)
        return into

    # -- faults ---------------------------------------------------------------

    def daemon(self, name: str, host: str | None = None) -> Daemon:
        """slurmctld, slurmdbd, mariadbd, slurmd or sshd; a host other than its usual one."""
        usual = {"slurmd": "node1", "sshd": "login"}.get(name, "ctl")
        return Daemon(name, self.hosts[host or usual])

    def link_down(self, host: str) -> None:
        """Pull a host's network cable: packets vanish, nobody is told."""
        call(["ip", "link", "set", "dev", self.instance.link(host), "down"])

    def link_up(self, host: str) -> None:
        """Plug a host's network cable in again."""
        call(["ip", "link", "set", "dev", self.instance.link(host), "up"])

    @contextmanager
    def slow_link(self, host: str, megabits: int) -> Iterator[None]:
        """So many megabits a second, and no more, on the way to a host."""
        link = self.instance.link(host)
        limit = ["tbf", "rate", f"{megabits}mbit", "burst", "64kb", "latency", "200ms"]
        call(["tc", "qdisc", "add", "dev", link, "root", *limit])
        try:
            yield
        finally:
            call(["tc", "qdisc", "del", "dev", link, "root"])

    def restart_controller(self, clear_state: bool = False) -> None:
        """Restart slurmctld; clear_state forgets all jobs and starts ids at 1 again."""
        controller = self.daemon("slurmctld")
        controller.terminate()
        if clear_state:
            # -c alone would go on numbering jobs where the saved state left off.
            layout.empty(self.hosts["ctl"].root / "var/spool/slurmctld")
        controller.start(*(["-c"] if clear_state else []))

    def kill_controller(self, job_id: str) -> None:
        """kill -9 slurmctld, once it has saved what it knows of a job: the rest it forgets with its death."""
        saved = self.hosts["ctl"].root / "var/spool/slurmctld/job_state"
        before = time.time()
        self.run("ctl", ["scontrol", "update", f"JobId={job_id}", "Comment=known"], user="root")
        self.wait_for(
            lambda: saved.exists() and saved.stat().st_mtime > before, 60, "slurmctld to save its jobs"
        )
        self.daemon("slurmctld").kill()

    def reconfigure(self, settings: Mapping[str, str]) -> None:
        """Change lines of slurm.conf until the next reset(), on all hosts, and apply them."""
        layout.write_slurm_files(self.instance, {**conf.slurm_settings(self.options), **settings})
        # Restarts, which jobs survive, rather than "scontrol reconfigure": that makes
        # newer daemons replace themselves by new processes some time after it returned.
        daemons = [self.daemon("slurmctld"), *(self.daemon("slurmd", n) for n in self.options.node_names)]
        for daemon in daemons:
            if daemon.running():
                daemon.restart()

    def configure_sshd(self, *lines: str, host: str = "login") -> None:
        """Give sshd more configuration, which wins, until the next reset(); restart it."""
        more = self.folder / "etc/ssh/sshd_config.d/test.conf"
        more.write_text("".join(f"{line}\n" for line in lines))
        self.daemon("sshd", host).restart()

    def relay(
        self,
        host: str = "login",
        latency: float = 0,
        cut_up: int | None = None,
        cut_down: int | None = None,
        black_hole: bool = False,
    ) -> Relay:
        """A relay on this machine before a host's sshd, to be used in a with statement."""
        return Relay((self.address(host), 22), latency, cut_up, cut_down, black_hole)

    def ask_one_time_code(self, *codes: str) -> None:
        """Let login ask for a code after the key; each is good for one connection."""
        layout.write_one_time_codes(self.hosts["login"].root, codes)
        self.configure_sshd(*conf.ONE_TIME_CODE_SSHD)

    def change_host_key(self, *, known: bool = False, host: str = "login") -> None:
        """Give sshd a new host key, which known_hosts learns of only if known."""
        layout.new_host_key(self.instance, known=known)
        self.daemon("sshd", host).restart()

    def hide(self, host: str, *paths: str) -> None:
        """Take files, as "/usr/bin/git", away from one host until the next reset()."""
        for path in paths:
            self.run(host, ["mv", path, f"{path}.hidden"], user="root")
            self.hidden.append((host, path))

    # -- waiting --------------------------------------------------------------

    @staticmethod
    def wait_for(predicate: Callable[[], object], timeout: float, what: str) -> None:
        """Return once predicate() is true; ClusterError, naming what, after timeout s."""
        procs.wait_for(predicate, timeout, what)

    def node_states(self) -> dict[str, str]:
        """Slurm's word for every node: {"node1": "idle", "node2": "down*", ...}."""
        return boot.node_states(self.hosts["ctl"])

    def wait_idle(self, timeout: float = 60) -> None:
        """Wait until every node is idle."""
        procs.wait_for(lambda: boot.nodes_idle(self.hosts["ctl"]), timeout, "all nodes to be idle")

    def reset(self) -> None:
        """Undo what a test did: jobs, faults, configuration, files.  See reset.py."""
        reset(self)

    # -- ssh ------------------------------------------------------------------

    @property
    def ssh_address(self) -> str:
        """IPv4 address of host login."""
        return self.address("login")

    def address(self, host: str) -> str:
        """IPv4 address of a host; "machine" is this machine's end of the bridge."""
        return address(self.number, host)

    @property
    def ssh_key(self) -> Path:
        """Alice's private key; the other users' lie beside it under their names."""
        return self.folder / "ssh/alice"

    @property
    def known_hosts(self) -> Path:
        """A known_hosts file with every host's key."""
        return self.folder / "ssh/known_hosts"

    def ssh_argv(self, *argv: str, user: str = "alice", host: str = "login", batch: bool = True) -> list[str]:
        """The ssh command that runs argv on a host from this machine; batch asks nothing."""
        options = ["-F", "none", "-o", f"UserKnownHostsFile={self.known_hosts}"]
        options += ["-o", f"BatchMode={'yes' if batch else 'no'}"]
        key = str(self.ssh_key.with_name(user))
        return ["ssh", *options, "-i", key, f"{user}@{self.address(host)}", *argv]


# -- at exit -------------------------------------------------------------------

_live: weakref.WeakSet[Cluster] = weakref.WeakSet()
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def _take_down_at_exit(cluster: Cluster) -> None:
    if not _live:
        atexit.register(_take_all_down)
        for number in _SIGNALS:
            # Another's handler is left alone; ours only replaces sudden death.
            with suppress(ValueError):  # not the main thread
                if signal.getsignal(number) is signal.SIG_DFL:
                    signal.signal(number, _on_signal)
    _live.add(cluster)


def _take_all_down() -> None:
    for cluster in list(_live):
        owner = cluster.instance.owner
        if owner is not None and owner.pid == os.getpid():  # not in a forked child
            cluster.down()


def _on_signal(number: int, frame: FrameType | None) -> None:
    _take_all_down()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
