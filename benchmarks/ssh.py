"""The rows of a laptop: a cluster reached by SSH, beside rsync and ssh over the very same connection.

What is brought comes to tmpfs, from files that were written just before, and so are in memory.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import rows
from benchmarks.measure import Row, alternate, python, timed
from benchmarks.rows import booted

HPCRUN = python("-m", "hpcrun")
_GIG = 1_000_000_000
_HOUSE = Path(__file__).resolve().parent.parent


class Laptop:
    """A workspace on tmpfs, and the virtual cluster as its site ``far``."""

    def __init__(self, cluster: Any, folder: Path, runtime: Path) -> None:
        from tests.ssh_help import ssh_config

        self.cluster = cluster
        self.folder = folder
        self.env = {**os.environ, "XDG_RUNTIME_DIR": str(runtime)}
        (folder / "src").mkdir()
        (folder / "src/a.py").write_text("print('hello')\n")
        (folder / ".hpcrun").mkdir(mode=0o700)
        self.config = ssh_config(cluster, folder / "ssh")
        self.site(self.config)

    def site(self, config: Path) -> None:
        site = {
            "connection": {"type": "ssh", "host": "login", "ssh_config": str(config)},
            "root": "/home/alice/hpc",
            "scheduler": {"type": "slurm"},
            "default_partition": "main",
        }
        (self.folder / "site_configs").mkdir(exist_ok=True)
        (self.folder / "site_configs/far.yaml").write_text(json.dumps(site))

    def hpcrun(self, *args: str) -> str:
        return self.call([*HPCRUN, *args])

    def call(self, argv: list[str]) -> str:
        done = subprocess.run(
            argv, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=600
        )
        if done.returncode not in (0, 23, 24):
            raise RuntimeError(f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def submit(self, *command: str, source: str = "src") -> dict[str, Any]:
        argv = ["submit", "run.yaml", "-t", "far", "--json"]
        (self.folder / "run.yaml").write_text(
            json.dumps({"experiment": "bench", "source_directory": source, "command": list(command)})
        )
        document: dict[str, Any] = json.loads(self.hpcrun(*argv))
        return document

    def ended(self, *command: str) -> dict[str, Any]:
        """A run that has ended, and of which nothing has come."""
        run = self.submit(*command)
        seen: list[dict[str, Any]] = []

        def over() -> bool:
            seen[:] = [json.loads(self.hpcrun("show", run["id"], "--json"))]
            return bool(seen[0]["outcome"])

        self.cluster.wait_for(over, 300, "the run to end")
        return seen[0]

    @property
    def rsh(self) -> str:
        """What rsync reaches the login node with: the connection that hpcrun keeps open."""
        return f"ssh -F {self.config} -S {self.socket}"

    @property
    def socket(self) -> Path:
        runtime = Path(self.env["XDG_RUNTIME_DIR"])
        return next(path for path in runtime.rglob("*") if path.is_socket())

    @property
    def new_ssh(self) -> str:
        """The same, by a connection of its own."""
        return f"ssh -F {self.config}"

    def cost(self, action: Callable[[], object]) -> tuple[int, int, int]:
        """Bytes that go out, remote commands and connections of something that begins without any."""
        from tests.ssh_help import SshdLog, end_masters, ssh_config, through

        runtime = Path(self.env["XDG_RUNTIME_DIR"])
        end_masters(runtime)
        direct = self.config
        log = SshdLog(self.cluster)
        with self.cluster.relay() as relay:
            self.config = ssh_config(self.cluster, self.folder / "ssh", **through(relay, self.cluster))
            self.site(self.config)
            action()
            end_masters(runtime)
            sent = int(relay.bytes_up)
        self.config = direct
        self.site(direct)
        return sent, log.count(r"^Starting session: command"), log.logins

    def there(self, run: dict[str, Any], name: str = "") -> Path:
        found: Path = self.cluster.outside(run["run_dir"]) / name
        return found


@contextmanager
def at_a_laptop() -> Iterator[Laptop]:
    """Raises NotHere where there can be no virtual cluster."""
    with contextmanager(booted)() as cluster:
        from tests.ssh_help import end_masters

        with rows.folder() as folder:
            runtime = Path(tempfile.mkdtemp(prefix="hb-", dir="/tmp"))
            try:
                yield Laptop(cluster, folder, runtime)
            finally:
                end_masters(runtime)
                shutil.rmtree(runtime)


def fill(folder: Path, files: int) -> None:
    """So many small files, owned as the folder is."""
    owner = folder.stat()
    for number in range(files):
        place = folder / f"d{number % 100:03d}"
        if number < 100:
            place.mkdir()
            os.chown(place, owner.st_uid, owner.st_gid)
        path = place / f"f{number}"
        path.write_bytes(b"x" * 100)
        os.chown(path, owner.st_uid, owner.st_gid)


_SYNC = """
import sys, time
from hpcrun import Run, Workspace
run = Run.get(Workspace.from_config("."), sys.argv[1])
run.sync()
for line in sys.stdin:
    began = time.perf_counter()
    run.sync()
    print(time.perf_counter() - began, flush=True)
"""
"""A program that goes on, and syncs once a line."""


def sync_unchanged() -> list[Row]:
    with at_a_laptop() as laptop:
        run = laptop.ended("true")
        fill(laptop.there(run, "code/outputs"), 10_000)
        laptop.hpcrun("sync")
        argv = ["rsync", "-a", "-e", laptop.rsh, f"login:{run['run_dir']}/", f"{laptop.folder}/copy/"]
        laptop.call(argv)
        ours, theirs = alternate(lambda: laptop.hpcrun("sync", run["id"]), lambda: laptop.call(argv), 9)
        rows_ = [
            Row("`hpcrun sync`, 10,000 files unchanged", ours, "`rsync -a` over the same ssh", theirs, 1.2)
        ]
        program = subprocess.Popen(
            python("-c", _SYNC, run["id"]),
            cwd=laptop.folder,
            env=laptop.env,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert program.stdin is not None and program.stdout is not None
        calls, theirs = [], float("inf")
        for _ in range(11):
            program.stdin.write("go\n")
            program.stdin.flush()
            calls.append(float(program.stdout.readline()))
            theirs = min(theirs, timed(partial(laptop.call, argv)))
        program.communicate(timeout=60)
        what = "`run.sync()` in a program, 10,000 files unchanged"
        return [*rows_, Row(what, min(calls), "`rsync -a` over the same ssh", theirs, 1.2)]


def sync_large() -> list[Row]:
    with at_a_laptop() as laptop:
        best_ours = best_theirs = float("inf")
        copy = laptop.folder / "large"
        for _ in range(5):
            run = laptop.ended("sh", "-c", f"head -c {_GIG} /dev/urandom >outputs/big")
            there = f"login:{run['run_dir']}/code/outputs/"
            argv = ["rsync", "-a", "-e", laptop.rsh, there, f"{copy}/"]
            best_theirs = min(best_theirs, timed(partial(laptop.call, argv)))
            shutil.rmtree(copy)
            best_ours = min(best_ours, timed(partial(laptop.hpcrun, "sync")))
            shutil.rmtree(laptop.folder / f".hpcrun/runs/{run['id']}/code")
            shutil.rmtree(laptop.there(run, "code"))
        what = "`hpcrun sync` of 1 GB, first"
        return [Row(what, best_ours, "`rsync -a` over the same ssh", best_theirs, 1.05)]


def submit_over_ssh() -> list[Row]:
    """How long a whole submission takes when the snapshot is there, and what goes over when it is not."""
    with at_a_laptop() as laptop:
        tree = laptop.folder / "tree"
        shutil.copytree(_HOUSE / "hpcrun", tree, ignore=shutil.ignore_patterns("__pycache__"))
        copy = ["rsync", "-az", "-e", "SSH", f"{tree}/", "login:/home/alice/hpc/copy/"]
        first, commands, logins = laptop.cost(lambda: laptop.submit("true", source="tree"))
        theirs, _, _ = laptop.cost(lambda: laptop.call([laptop.new_ssh if w == "SSH" else w for w in copy]))
        known, known_commands, _ = laptop.cost(lambda: laptop.submit("true", source="tree"))
        laptop.submit("true", source="tree")
        true = [*laptop.rsh.split(), "login", "true"]
        again = ("submit", "run.yaml", "-t", "far")
        ours, bare = alternate(partial(laptop.hpcrun, *again), partial(laptop.call, true), 9)
        name, known_name = "`hpcrun submit` over SSH, first", "`hpcrun submit` over SSH, snapshot known"
        return [
            Row(name, first, "`rsync -az` of the tree", theirs, 1, "bytes sent"),
            Row(name, commands, "the limit", 5, 1, "remote commands"),
            Row(name, logins, "the limit", 1, 1, "connections"),
            Row(known_name, known_commands, "the limit", 3, 1, "remote commands"),
            Row(known_name, known, "first", first, None, "bytes sent"),
            Row(known_name, ours, "`ssh HOST true` on an open master", bare, None),
        ]


def status_over_ssh() -> list[Row]:
    """Runs that all wait in the queue; see :func:`benchmarks.rows.status_of_many`."""
    from hpcrun.history.record import new_run_id

    names = [new_run_id("bench") for _ in range(rows.MANY)]
    with at_a_laptop() as laptop:
        cluster = laptop.cluster
        settings = {"MaxJobCount": str(2 * rows.MANY), "SchedulerParameters": "defer"}
        cluster.reconfigure(settings)
        cluster.write("/home/alice/p/names", "".join(f"{name}\n" for name in names))
        run = partial(cluster.run, "login", cwd="/home/alice/p", timeout=600)
        run(["sh", "-c", rows.SUBMIT_ALL])
        queue = dict(
            line.split()[::-1] for line in run(["squeue", "--noheader", "--format=%i %j"]).stdout.splitlines()
        )
        jobs = {name: queue[name] for name in names}
        rows.waiting(laptop.folder / ".hpcrun", jobs, "far", "/home/alice/hpc/runs", host="login")
        sacct = ["sacct", "--allocations", "--noheader", "--parsable2", "--starttime=now-1day"]
        cluster.wait_for(
            lambda: run(sacct).stdout.count("\n") >= rows.MANY, 300, "all jobs in the accounting"
        )
        laptop.hpcrun("ls")  # the first brings reasons and times up to date
        _, commands, logins = laptop.cost(lambda: laptop.hpcrun("ls"))
        laptop.hpcrun("ls")
        raw = [*laptop.rsh.split(), "login", *sacct]
        ours, theirs = alternate(lambda: laptop.hpcrun("ls"), lambda: laptop.call(raw), 7)
        name = "`hpcrun ls` of 10,000 waiting runs over SSH"
        return [
            Row(name, ours, "one `sacct` of them over the same ssh", theirs, 3),
            Row(name, commands, "the limit", 2, 1, "remote commands"),
            Row(name, logins, "the limit", 1, 1, "connections"),
        ]


ALL: tuple[Callable[[], list[Row]], ...] = (sync_unchanged, sync_large, submit_over_ssh, status_over_ssh)
