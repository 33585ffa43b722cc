"""Submitting from the login node, with the faults of shared machines played for real."""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.integration import support

SITE = "default_partition: main\n"

# Counts its own starts, so that a second one cannot go unseen.
PAYLOAD = """\
import os
with open("/home/alice/starts", "a") as file:
    file.write(os.environ["HPCRUN_RUN_ID"] + "\\n")
"""


class Login:
    """Alice at the login node, in a project of hers."""

    project = "/home/alice/project"

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        cluster.write("/home/alice/.config/hpcrun/site_configs/virtual.yaml", SITE)
        cluster.write(f"{self.project}/src/train.py", PAYLOAD)
        cluster.write(
            f"{self.project}/run.yaml",
            "experiment: faulty\nsource_directory: src\nscript: train.py\ncompute_target: virtual\n",
        )

    def python(self, code: str, *arguments: str, check: bool = True, timeout: float = 120) -> str:
        """Run Python code in the project; what it printed."""
        argv = [sys.executable, "-c", code, *arguments]
        done = self.cluster.run("login", argv, cwd=self.project, check=check, timeout=timeout)
        return done.stdout

    def submitting(self, **environment: str) -> Any:
        """Start a submission; the process."""
        return self.cluster.popen("login", self.argv("submit", "run.yaml"), cwd=self.project, env=environment)

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "hpcrun", *arguments]

    def hpcrun(self, *arguments: str, check: bool = True, env: dict[str, str] | None = None) -> Any:
        """Run hpcrun in the project."""
        return self.cluster.run(
            "login", self.argv(*arguments), cwd=self.project, check=check, env=env, timeout=180
        )

    def runs(self) -> list[dict[str, Any]]:
        """The records of all runs of the history, brought up to date."""
        listed = json.loads(self.hpcrun("ls", "--json", "-n", "100").stdout)
        rows = listed["runs"] if isinstance(listed, dict) else listed
        return [json.loads(self.hpcrun("show", row["id"], "--json").stdout) for row in rows]

    def wait_for_end(self, timeout: float = 90) -> dict[str, Any]:
        """The record of the only run there is, once it has ended."""
        seen: list[dict[str, Any]] = []

        def ended() -> bool:
            seen[:] = self.runs()
            return bool(seen) and all(r["state"] in ("Completed", "Failed", "Canceled") for r in seen)

        self.cluster.wait_for(ended, timeout, "the run to end")
        assert len(seen) == 1
        return seen[0]

    def rows(self) -> int:
        """How many runs the index holds."""
        database = self.cluster.outside(f"{self.project}/.hpcrun/history.db")
        if not database.exists():
            return 0
        connection = sqlite3.connect(database)
        try:
            count = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
        finally:
            connection.close()
        return int(count)

    def starts(self) -> list[str]:
        """The run ids of all starts of the payload."""
        path = self.cluster.home() / "starts"
        return path.read_text().split() if path.exists() else []

    def jobs(self, run_id: str) -> list[str]:
        """The ids of all jobs that Slurm's accounting knows by the run's name."""
        argv = ["sacct", "-X", "-n", "-P", "-S", "now-1hours", f"--name={run_id}", "--format=JobID"]
        return self.cluster.run("login", argv).stdout.split()

    def put_on_path(self, name: str, script: str) -> dict[str, str]:
        """A program of alice's own, found before Slurm's; the environment that finds it."""
        self.cluster.write(f"/home/alice/bin/{name}", script, mode=0o755)
        return {"PATH": "/home/alice/bin:/usr/local/bin:/usr/bin:/bin"}


@pytest.fixture
def login(cluster: Cluster) -> Login:
    return Login(cluster)


@pytest.fixture
def alice(cluster: Cluster) -> support.Login:
    """Alice with a full description of the cluster, and runs as documents."""
    return support.Login(cluster)


_GIVE_UP_SOON = """
import sys, time
import hpcrun.engine.decide as decide
from hpcrun import Run, Workspace
run = Run.get(Workspace.from_config(), sys.argv[1])
before = run.get_status()
decide.LOST_GRACE = 1.0
deadline = time.monotonic() + 60
while run.get_status() == before and time.monotonic() < deadline:
    time.sleep(0.5)
print(before, run.get_status())
"""


def give_up_soon(alice: support.Login, run: support.Document, path: str = "/usr/local/bin") -> list[str]:
    """Look at a run that nobody knows of, with a grace of one second: its state before that, and after.

    Programs in ``path`` are found before Slurm's own.
    """
    return alice.python(_GIVE_UP_SOON, run["id"], env={"PATH": f"{path}:/usr/bin:/bin"}).split()


def crash(cluster: Cluster, node: str) -> None:
    """A node's slurmd, and all that runs of jobs there, end in the same moment and without a word."""
    cluster.daemon("slurmd", node).kill()
    for process in [*cluster.processes(node, "slurmstepd"), *cluster.processes(node, user="alice")]:
        process.signal(signal.SIGKILL)


def calls(path: Path) -> int:
    """How often a wrapper that notes each call was called."""
    return len(path.read_text().splitlines()) if path.exists() else 0
