"""A laptop: a workspace on this machine, and hpcrun typed in it for a cluster that is reached by SSH."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.cluster import Cluster
from tests.ssh_help import end_masters, private_runtime, ssh_config, through

Document = dict[str, Any]

ROOT = "$HOME/hpc"
PAYLOAD = """\
import os
with open("/home/alice/starts", "a") as file:
    file.write(os.environ["HPCRUN_RUN_ID"] + "\\n")
"""
"""Counts its own starts, so that a second one cannot go unseen."""


class Laptop:
    """Somebody at this machine, with a project in ``folder`` and the cluster as site ``far``."""

    def __init__(self, cluster: Cluster, folder: Path, runtime: Path) -> None:
        self.cluster = cluster
        self.runtime = runtime
        self.folder = folder
        self.project = folder / "project"
        self.source = self.project / "src"
        self.source.mkdir(parents=True)
        (self.source / "train.py").write_text(PAYLOAD)
        (self.project / ".hpcrun").mkdir(mode=0o700)
        self.env: dict[str, str] = {}
        self.umask = 0o022
        self.site()
        self.config()

    def site(self, config: Path | None = None, **changes: Any) -> None:
        """Describe the site anew; sections are merged by key."""
        config = config or ssh_config(self.cluster, self.folder / "ssh")
        site: Document = {
            "connection": {"type": "ssh", "host": "login", "ssh_config": str(config)},
            "root": ROOT,
            "scheduler": {"type": "slurm"},
            "default_partition": "main",
        }
        for key, value in changes.items():
            site[key] = {**site.get(key, {}), **value} if isinstance(value, dict) else value
        path = self.project / "site_configs/far.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(site))

    def config(self, **changes: Any) -> None:
        """Write run.yaml."""
        run = {"experiment": "exp", "source_directory": "src", "script": "train.py", **changes}
        if "command" in changes:
            del run["script"]
        (self.project / "run.yaml").write_text(json.dumps(run))

    @contextmanager
    def by_relay(self, **faults: Any) -> Iterator[Any]:
        """The site is reached by way of a relay, and by a connection of its own."""
        with self.cluster.relay(**faults) as relay:
            config = ssh_config(self.cluster, self.folder / "ssh", **through(relay, self.cluster))
            self.site(config)
            try:
                yield relay
            finally:
                self.hang_up()

    # -- commands -------------------------------------------------------------

    def argv(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "hpcrun", *args]

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        return {**os.environ, **self.env, **(env or {})}

    def start(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """``hpcrun ARGS``, as a process."""
        return subprocess.Popen(
            self.argv(*args),
            cwd=self.project,
            env=self.environment(env),
            umask=self.umask,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def hpcrun(
        self, *args: str, check: bool = True, env: Mapping[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """``hpcrun ARGS`` in the project."""
        with self.start(*args, env=env) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            finally:
                process.kill()
        done = subprocess.CompletedProcess(args, process.returncode, out, err)
        assert not check or done.returncode == 0, (args, done.returncode, out, err)
        return done

    def python(self, code: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Python code that uses hpcrun, in the project."""
        return subprocess.run(
            [sys.executable, "-c", code, *args],
            cwd=self.project,
            env=self.environment(),
            text=True,
            capture_output=True,
            timeout=120,
        )

    def json(self, *args: str, **how: Any) -> Document:
        document: Document = json.loads(self.hpcrun(*args, "--json", **how).stdout)
        return document

    def submit(self, *options: str, **how: Any) -> Document:
        """``hpcrun submit run.yaml -t far``; the run."""
        return self.json("submit", "run.yaml", "-t", "far", *options, **how)

    def refused(self, *options: str, **how: Any) -> subprocess.CompletedProcess[str]:
        """A submission that fails; nothing is in the queue then."""
        done = self.hpcrun("submit", "run.yaml", "-t", "far", *options, check=False, **how)
        assert done.returncode != 0, done.stdout
        return done

    def show(self, run: Document | str) -> Document:
        return self.json("show", run if isinstance(run, str) else run["id"])

    def until(self, run: Document | str, *states: str, timeout: float = 90) -> Document:
        """The run, once hpcrun says that it is in one of these states."""
        deadline, seen = time.monotonic() + timeout, self.show(run)
        while seen["state"] not in states:
            assert time.monotonic() < deadline, (seen["state"], seen["reason"], seen.get("message"))
            assert not (seen["state"] in ("Completed", "Failed", "Canceled") and states), seen
            time.sleep(0.3)
            seen = self.show(run)
        return seen

    def finish(self, *options: str, **how: Any) -> Document:
        """Submit, and poll until the payload has ended, whatever became of it."""
        return self.ended(self.submit(*options, **how))

    def ended(self, run: Document | str) -> Document:
        """Finalizing alone is not enough: Slurm says so, too, of a job whose last step still completes."""
        deadline = time.monotonic() + 90
        seen = self.until(run, "Finalizing", "Completed", "Failed", "Canceled")
        while seen["state"] == "Finalizing" and seen["ended"] is None:
            assert time.monotonic() < deadline, seen
            time.sleep(0.3)
            seen = self.show(run)
        return seen

    def runs(self) -> list[Document]:
        """All runs of the history, brought up to date."""
        listed = json.loads(self.hpcrun("ls", "--json", "-n", "1000").stdout)
        return [self.show(row["id"]) for row in listed["runs"]]

    def hang_up(self) -> None:
        """End the connections that are kept open."""
        end_masters(self.runtime)

    # -- what is there --------------------------------------------------------

    def there(self, run: Document, name: str = "") -> Path:
        """A file of a run's folder on the cluster, seen from outside."""
        return self.cluster.outside(run["run_dir"]) / name

    def root(self, name: str = "") -> Path:
        return self.cluster.home() / "hpc" / name

    def slurm(self, *argv: str) -> str:
        return self.cluster.run("login", argv).stdout

    def starts(self) -> list[str]:
        """The run ids of all starts of the payload."""
        path = self.cluster.home() / "starts"
        return path.read_text().split() if path.exists() else []

    def reported(self) -> int:
        """How many runs have reported something, as their own files there say."""
        return sum(file.stat().st_size > 0 for file in self.root("runs").glob("*/metrics/rank_*.jsonl"))

    def jobs(self) -> list[tuple[str, str]]:
        """Name and id of all jobs since the test began, as accounting knows them; see ``until_booked``."""
        argv = ["sacct", "-X", "-n", "-P", "-S", self.since, "--format=JobName,JobIDRaw"]
        pairs = (line.split("|") for line in self.slurm(*argv).splitlines())
        return [(name, number) for name, number in pairs]

    @property
    def since(self) -> str:
        return getattr(self, "_since", "now-1hours")

    def one_job_each(self, *runs: Document) -> None:
        """Each of these runs has one job in Slurm's books, and its payload has run once."""
        names = {run["id"]: run["job_id"] for run in runs}

        def booked() -> bool:
            known = [job for job in self.jobs() if job[0] in names]
            return {name for name, _ in known} == set(names)

        self.cluster.wait_for(booked, 30, "accounting to know the jobs")
        assert sorted(job for job in self.jobs() if job[0] in names) == sorted(names.items())
        begun = sorted(start for start in self.starts() if start in names)
        assert begun == sorted(names), (begun, [self.show(run) for run in runs])


def laptop_of(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    """For a fixture."""
    runtime = private_runtime(monkeypatch)
    yield Laptop(cluster, tmp_path, next(runtime))
    for _ in runtime:
        pass
