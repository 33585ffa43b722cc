"""`Login`: a user on a cluster's login node who types hpcrun's commands.

Nothing here knows how hpcrun works inside: commands go in, their JSON and the files they left come out.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.cluster import Cluster

Document = dict[str, Any]

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent.parent / "examples"
SYSTEM_PYTHON = "/usr/bin/python3"
"""Debian's own, on every host: a small one that starts quickly, and has mpi4py."""
BARE_PYTHON = f"{sys.base_prefix}/bin/python3"
"""The one that the tests' own environment was made with: it has neither mpi4py nor torch."""


def example_config(name: str) -> Document:
    """An example's run.yaml. PyYAML takes the key ``on`` for true, by the older rules of YAML."""
    config: Document = yaml.safe_load((EXAMPLES / name / "run.yaml").read_text())
    if "requeue" in config:
        config["requeue"]["on"] = config["requeue"].pop(True)
    return config


class Login:
    """Alice on the login node: the site ``virtual`` is in her configuration, projects are in her home."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.home = "/home/alice"
        self._site: Document = yaml.safe_load((HERE / "sites/virtual.yaml").read_text())
        self.add_site("virtual")

    # -- files ----------------------------------------------------------------

    def add_site(self, name: str, **changes: Any) -> str:
        """Describe the cluster once more, as ``name``, with other values; sections are merged by key."""
        site = copy.deepcopy(self._site) | {"name": name}
        for key, value in changes.items():
            site[key] = {**site.get(key, {}), **value} if isinstance(value, dict) else value
        self.write(f"{self.home}/.config/hpcrun/site_configs/{name}.yaml", yaml.safe_dump(site))
        return name

    def write(self, path: str, text: str, mode: int = 0o644) -> str:
        """Write a file of alice's."""
        return self.cluster.write(path, text, mode=mode)

    def project(self, files: Mapping[str, str], name: str = "project") -> str:
        """A folder in her home that holds these files; its path."""
        for file, text in files.items():
            self.write(f"{self.home}/{name}/{file}", text)
        return f"{self.home}/{name}"

    def example(self, name: str) -> str:
        """A copy, in her home, of one of the examples that come with hpcrun; its path."""
        texts = {path.name: path.read_text() for path in (EXAMPLES / name).iterdir() if path.is_file()}
        return self.project(texts, name)

    def read(self, run: Document, name: str) -> str:
        """A file of a run's folder in the history, by way of whatever links lead there."""
        return self.cat(f"{run['folder']}/{name}")

    def cat(self, path: str) -> str:
        """A file, as alice sees it on the login node."""
        return self.cluster.run("login", ["cat", path]).stdout

    def exists(self, path: str) -> bool:
        """Whether alice sees a file or folder at a path on the login node."""
        return self.cluster.run("login", ["test", "-e", path], check=False).returncode == 0

    def log(self, run: Document, rank: int | None = None) -> str:
        """What a run's one process, or one of its ranks, has printed so far."""
        name = "std_log.txt" if rank is None else f"std_log_process_{rank:03d}.txt"
        path = f"{run['folder']}/user_logs/{name}"
        return self.cat(path) if self.exists(path) else ""

    # -- commands -------------------------------------------------------------

    def slurm(self, *argv: str) -> str:
        """What one of Slurm's own commands says to alice."""
        return self.cluster.run("login", argv).stdout

    def hpcrun(
        self,
        *args: str,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """``hpcrun ARGS`` on the login node, in her home unless ``cwd`` says otherwise."""
        return self.cluster.run("login", self.argv(*args), cwd=cwd, env=env, check=check, timeout=timeout)

    def argv(self, *args: str) -> list[str]:
        """What ``hpcrun ARGS`` is on the login node."""
        return [sys.executable, "-m", "hpcrun", *args]

    def python(self, code: str, *args: str, env: Mapping[str, str] | None = None) -> str:
        """What Python code that uses hpcrun prints on the login node, in her home."""
        return self.cluster.run("login", [sys.executable, "-c", code, *args], env=env, timeout=120).stdout

    def json(self, *args: str, **how: Any) -> Document:
        """The one JSON document that ``hpcrun ARGS --json`` prints."""
        document: Document = json.loads(self.hpcrun(*args, "--json", **how).stdout)
        return document

    def submit(self, config: Document, *options: str, project: str | None = None, **how: Any) -> Document:
        """Submit what ``config`` describes (the content of a run.yaml) to ``virtual``, or ``-t`` another.

        The file is written to ``project``, by default an empty folder, which is what gets snapshotted.
        """
        project = project or f"{self.home}/project"
        file = self.write(f"{project}/run.yaml", json.dumps(config, ensure_ascii=False))
        target = [] if "-t" in options or "compute_target" in config else ["-t", "virtual"]
        return self.json("submit", file, *target, *options, **how)

    def finish(self, config: Document, *options: str, **how: Any) -> Document:
        """Submit, and wait for the end, whatever it is."""
        return self.submit(config, "--wait", *options, check=False, **how)

    def wait(self, *runs: Document, timeout: float = 120) -> list[Document]:
        """The runs at their end, whatever it is."""
        ids = [run["id"] for run in runs]
        found: list[Document] = self.json("wait", *ids, check=False, timeout=timeout)["runs"]
        return found

    def show(self, run: Document) -> Document:
        """The run as it stands now."""
        return self.json("show", run["id"])

    def quickly_forgotten(self) -> None:
        """From now on jobs leave squeue two seconds after their end, before sacct knows of it."""
        self.cluster.reconfigure({"MinJobAge": "2"})

    def in_queue(self, run: Document) -> bool:
        """Whether squeue still knows the run's job; asked for by its id alone, a purged one is an error."""
        argv = ["squeue", "--noheader", "--states=all", f"--jobs={run['job_id']}"]
        return self.cluster.run("login", argv, check=False).stdout.strip() != ""

    def until_forgotten(self, *runs: Document) -> None:
        """Wait until squeue knows none of the runs' jobs any more."""
        self.cluster.wait_for(
            lambda: not any(self.in_queue(run) for run in runs), 90, "the jobs to leave the queue"
        )

    # -- waiting --------------------------------------------------------------

    def until_logged(self, run: Document, words: str, rank: int | None = None) -> None:
        """Wait until a process of the run has printed ``words``."""
        self.cluster.wait_for(lambda: words in self.log(run, rank), 30, f"{words!r} in the log")

    def until_said(self, run: Document, words: str) -> None:
        """Wait until hpcrun's script has said ``words`` in the run's system log."""
        path = f"{run['folder']}/system_logs/job.txt"
        self.cluster.wait_for(
            lambda: self.exists(path) and words in self.cat(path), 30, f"{words!r} in the system log"
        )

    def until_state(self, run: Document, state: str, reason: str = "") -> Document:
        """Wait until hpcrun says that the run is in ``state``, for ``reason``; the run then."""
        seen: list[Document] = [run]

        def there() -> bool:
            seen[0] = self.show(run)
            return bool(seen[0]["state"] == state and seen[0]["reason"] == reason)

        self.cluster.wait_for(there, 30, f"{run['id']} to be {state} ({reason})")
        return seen[0]


def how_it_ended(run: Document) -> tuple[str, str, int | None]:
    """State, reason and exit code."""
    return run["state"], run["reason"], run["exit_code"]


def states(run: Document) -> list[str]:
    """The states that a run has been in, in their order."""
    return [entry["state"] for entry in run["states"]]


def job_fields(text: str) -> dict[str, str]:
    """What ``scontrol show job`` prints, by key."""
    words = (word.partition("=") for word in text.split())
    return {key: value for key, equals, value in words if equals}


def tres(text: str) -> dict[str, str]:
    """``cpu=4,mem=600M,node=2`` by resource."""
    return dict(part.split("=", 1) for part in text.split(","))
