"""The rows of the table. Each function gives some; trees and histories lie on tmpfs."""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, alternate, at_most, program, python, timed

HPCRUN = python("-m", "hpcrun")


class NotHere(Exception):
    """This machine cannot measure the row."""


def cores() -> int:
    return len(os.sched_getaffinity(0))


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder in memory."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    made = Path(tempfile.mkdtemp(prefix="hpcrun-bench-", dir=place))
    try:
        yield made
    finally:
        shutil.rmtree(made)


def start_up() -> list[Row]:
    bare = program(*python("-c", "import argparse"))
    rows = []
    for option in ("--help", "--version"):
        ours, theirs = alternate(program(*HPCRUN, option), bare, 15)
        rows.append(Row(f"`hpcrun {option}`", ours, '`python -c "import argparse"`', theirs, 4))
    return rows


def _history(where: Path, runs: int) -> Path:
    """A workspace with that many runs that have ended; one in a hundred has a record of its own."""
    from hpcrun.history.record import RunRecord, new_run_id
    from hpcrun.history.store import History
    from hpcrun.states import RunState

    where.mkdir()
    with History.open(where / ".hpcrun", create=True) as history:
        for _ in range(runs):
            record = RunRecord(
                id=new_run_id("bench"),
                experiment="bench",
                target="local",
                scheduler="local",
                state=RunState.COMPLETED,
                started="2026-01-01T00:00:00Z",
                ended="2026-01-01T00:01:00Z",
            )
            history.create(record)
    return where


def listing() -> list[Row]:
    with folder() as place:
        small, large = _history(place / "small", 10), _history(place / "large", 100_000)
        submitit = program(*python("-c", "import submitit"))
        rows = []
        for words in (("ls",), ("show", "@-1")):
            name = f"`hpcrun {' '.join(words)}` of 100,000 ended runs"
            ours, theirs = alternate(
                program(*HPCRUN, *words, cwd=large), program(*HPCRUN, *words, cwd=small), 9
            )
            rows.append(Row(name, ours, "the same of 10", theirs, 1.3))
            ours, theirs = alternate(program(*HPCRUN, *words, cwd=large), submitit, 9)
            rows.append(Row(name, ours, '`python -c "import submitit"`', theirs, 1.5))
        return rows


def _measured(where: Path) -> Path:
    """A history whose runs, all of them, have three parameters and five metrics."""
    from hpcrun.history import measures
    from hpcrun.history.store import History
    from hpcrun.metrics.reading import Point
    from hpcrun.metrics.sums import Look, Mark, Sum

    chance = random.Random(0)
    with History.open(where / ".hpcrun") as history:
        ids = [row.id for row in history.list(limit=None)]
        found = []
        for run_id in ids:
            sums = {name: Sum(0) for name in ("val_acc", "val_loss", "acc", "loss", "epoch_time")}
            for name, each in sums.items():
                each.add(Point(name, chance.random(), 1e9, 1.0, "scalar", 0, 1))
            found.append((run_id, [measures.File(0, Mark(), Look(Mark(1, 1), sums))]))
        history.take_in_metrics(found)
        told = ({"lr": 10 ** chance.uniform(-4, 0), "batch": 64, "amp": True} for _ in ids)
        with history._database.write() as connection:
            measures.put_parameters(connection, zip(range(1, len(ids) + 1), told, strict=True))
    return where


def asking() -> list[Row]:
    """Runs by what they measured; the limit is of the whole program, 0.3 s."""
    with folder() as place:
        small = _measured(_history(place / "small", 10))
        large = _measured(_history(place / "large", 100_000))
        rows = []
        for words in (
            ("--sort", "metric:val_acc"),
            ("--where", "val_acc > 0.9 and lr < 0.1"),
            ("--where", "val_acc > 0.9 and lr < 0.1", "--sort", "-min:val_loss"),
        ):
            ours, theirs = alternate(
                program(*HPCRUN, "ls", *words, cwd=large), program(*HPCRUN, "ls", *words, cwd=small), 9
            )
            name = f"`hpcrun ls {' '.join(words)}` of 100,000 ended runs"
            rows += [Row(name, ours, "the same of 10", theirs, 1.3), at_most(name, ours, 0.3)]
        return rows


def rendering() -> list[Row]:
    from hpcrun import PyTorchConfiguration, Resources, ScriptRunConfig
    from hpcrun.models.site import Site
    from hpcrun.render import Job, render_script

    config = ScriptRunConfig(
        ".",
        "train.py",
        ["--lr", 0.1],
        distributed_job_config=PyTorchConfiguration(node_count=2),
        resources=Resources(gpus_per_node=4, time="12h"),
    )
    job = Job("bench_20260101-000000_aaaaaaaa", "bench", "site", "/scratch/run", config, Site(name="site"))
    render_script(job)
    best = min(timed(lambda: [render_script(job) for _ in range(200)]) for _ in range(7)) / 200
    return [at_most("render one script (limit: 5,000 a second)", best, 1 / 5000)]


def _tree(where: Path, files: int = 10_000, size: int = 4_800) -> Path:
    content = random.Random(0)
    for number in range(files):
        path = where / f"d{number % 200:03d}" / f"f{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.randbytes(size))
    return where


def snapshots() -> list[Row]:
    from hpcrun.shells.local import LocalShell
    from hpcrun.snapshot import SnapshotStore

    with folder() as place:
        tree = _tree(place / "tree")
        count = iter(range(1000))

        def first() -> None:
            SnapshotStore(place / f"store{next(count)}", LocalShell()).take(tree)

        def git_add() -> None:
            bare = place / f"peer{next(count)}"
            git = ["git", "--git-dir", str(bare), "--work-tree", str(tree)]
            settings = ["-c", "core.looseCompression=0", "-c", "core.fsync=none"]
            subprocess.run(["git", "init", "-q", "--bare", str(bare)], check=True, timeout=60)
            subprocess.run([*git, *settings, "add", "-A"], check=True, timeout=120, cwd=tree)

        ours, theirs = alternate(first, git_add, 5)
        rows = [Row("snapshot of 10,000 files / 48 MB, first", ours, "`git add -A`", theirs, 1.1)]
        store = SnapshotStore(place / "kept", LocalShell())
        store.take(tree)
        subprocess.run(["git", "init", "-q"], check=True, cwd=tree, timeout=60)
        subprocess.run(["git", "add", "-A"], check=True, cwd=tree, timeout=120)
        # A moment later than the files, as in life: git reads again what may have changed in one tick.
        time.sleep(1.1)
        status = program("git", "-c", "core.untrackedCache=true", "status", "--porcelain", cwd=tree)
        ours, theirs = alternate(lambda: store.take(tree), status, 15)
        return [*rows, Row("snapshot, unchanged", ours, "`git status`", theirs, 3)]


def a_run_here() -> list[Row]:
    with folder() as place:
        (place / "src").mkdir()
        run = program(*HPCRUN, "run", "--source", "src", "--wait", "--", "true", cwd=place)
        return [at_most("a no-op run on this machine, end to end", min(timed(run) for _ in range(9)), 0.3)]


_LOOP = """
import time, sys
from pathlib import Path
from hpcrun import Experiment, ScriptRunConfig, Workspace
ws = Workspace.from_config(".")
config = ScriptRunConfig("src", command=["true"], compute_target="virtual")
experiment = Experiment(ws, "loop")
experiment.submit(config)
import submitit
executor = submitit.AutoExecutor("logs")
executor.update_parameters(timeout_min=1, slurm_mem="10M")
executor.submit(print)
for _ in range(int(sys.argv[1])):
    began = time.perf_counter(); experiment.submit(config); ours = time.perf_counter() - began
    began = time.perf_counter(); executor.submit(print); theirs = time.perf_counter() - began
    print(ours, theirs)
"""


def booted() -> Iterator[Any]:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tests.cluster.cluster import Cluster
    from tests.cluster.support import unsupported_reason

    reason = unsupported_reason()
    if reason is not None:
        raise NotHere(reason)
    cluster = Cluster.boot()
    try:
        cluster.write("/home/alice/.config/hpcrun/site_configs/virtual.yaml", "default_partition: main\n")
        yield cluster
    finally:
        cluster.down()


def on_a_login_node() -> list[Row]:
    with contextmanager(booted)() as cluster:
        cluster.write("/home/alice/p/src/a.py", "")
        cluster.write(
            "/home/alice/p/run.yaml", "source_directory: src\nscript: a.py\ncompute_target: virtual\n"
        )

        def run(*argv: str) -> str:
            return str(cluster.run("login", list(argv), cwd="/home/alice/p", timeout=300).stdout)

        submit = lambda: run(*HPCRUN, "submit", "run.yaml")  # noqa: E731
        ours, theirs = alternate(submit, lambda: run(*python("-c", "import submitit")), 9)
        rows = [Row("`hpcrun submit` on a login node", ours, '`python -c "import submitit"`', theirs, 3)]
        lines = run(*python("-c", _LOOP, "15")).split()
        mine = statistics.median(float(x) for x in lines[::2])
        peers = statistics.median(float(x) for x in lines[1::2])
        return [
            *rows,
            Row("one submit of many in a loop", mine, "`submitit.submit` (it throttles)", peers, 0.3),
        ]


MANY = 10_000

SUBMIT_ALL = """\
printf '#!/bin/sh\\nsleep 3600\\n' >job.sh
xargs -P 4 -I{} sbatch --quiet --nodes=3 --exclusive --output=/dev/null --job-name={} job.sh <names
"""


def status_of_many() -> list[Row]:
    """Runs that all wait in the queue; one has been given the whole cluster."""
    from hpcrun.history.record import new_run_id

    names = [new_run_id("bench") for _ in range(MANY)]
    with contextmanager(booted)() as cluster:
        cluster.reconfigure({"MaxJobCount": str(2 * MANY), "SchedulerParameters": "defer"})
        cluster.write("/home/alice/p/names", "".join(f"{name}\n" for name in names))

        def run(*argv: str) -> str:
            return str(cluster.run("login", list(argv), cwd="/home/alice/p", timeout=600).stdout)

        run("sh", "-c", SUBMIT_ALL)
        queue = dict(
            line.split()[::-1] for line in run("squeue", "--noheader", "--format=%i %j").splitlines()
        )
        home = cluster.outside("/home/alice/p")
        waiting(
            home / ".hpcrun", {name: queue[name] for name in names}, "virtual", "/home/alice/p/.hpcrun/runs"
        )
        subprocess.run(["chown", "-R", "--reference", home, home / ".hpcrun"], check=True, timeout=60)
        sacct = ("sacct", "--allocations", "--noheader", "--parsable2", "--starttime=now-1day")
        cluster.wait_for(lambda: run(*sacct).count("\n") >= MANY, 300, "all jobs to be in the accounting")
        run(*HPCRUN, "ls")  # the first brings reasons and times up to date
        ours, theirs = alternate(lambda: run(*HPCRUN, "ls"), lambda: run(*sacct), 7)
        return [Row("`hpcrun ls` of 10,000 waiting runs", ours, "one `sacct` of them", theirs, 3)]


def waiting(folder: Path, jobs: dict[str, str], site: str, runs: str, host: str | None = None) -> None:
    """A history of runs that all wait, by their names and jobs."""
    from hpcrun.history.record import RunRecord, utc_now
    from hpcrun.history.store import History
    from hpcrun.states import RunState

    with History.open(folder, create=True) as history:
        for name, job_id in jobs.items():
            record = RunRecord(
                id=name,
                experiment="bench",
                target=site,
                scheduler="slurm",
                state=RunState.QUEUED,
                job_id=job_id,
                run_dir=f"{runs}/{name}",
                host=host,
                submission={"state": "submitted", "began": utc_now()},
            )
            history.create(record)


def follow() -> list[Row]:
    """Of a run that prints twenty lines a second, on a cluster that is reached by ssh."""
    from benchmarks.following import lags, percentile

    with contextmanager(booted)() as cluster, folder() as place:
        ours, theirs = (percentile(each, 0.95) for each in lags(cluster, place))
        what = "a line of `hpcrun logs -f` over SSH is behind, 95 of 100 at most"
        tail = f"`ssh HOST tail -F` is {theirs * 1000:.3g} ms behind; the limit"
        return [Row(what, ours, tail, 0.5, 1.0)]


ALL: tuple[Callable[[], list[Row]], ...] = (
    start_up,
    listing,
    asking,
    rendering,
    snapshots,
    a_run_here,
    on_a_login_node,
    status_of_many,
    follow,
)
