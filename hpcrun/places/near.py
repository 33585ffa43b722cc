"""Run folders on a file system of this machine: in the workspace itself, or below the site's root."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hpcrun.errors import ConfigError
from hpcrun.history.files import remove_tree, touch
from hpcrun.history.homes import link_home as _link_home
from hpcrun.history.paths import RunPaths
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.history.tables import Table
from hpcrun.places import lib, secrets
from hpcrun.places.base import Found, Given, Here, OnSend
from hpcrun.places.refs import logs_of, ref_of, submitted_from
from hpcrun.places.status import read_status
from hpcrun.places.table import LIB, TABLE, TEMPLATE, table_text
from hpcrun.places.writing import private, write, write_bytes
from hpcrun.quoting import Secret
from hpcrun.schedulers.base import Scheduler
from hpcrun.shells.local import LocalShell
from hpcrun.snapshot import SnapshotStore


def current_python() -> str:
    """The interpreter of the environment that the caller is in: an activated one, else hpcrun's own."""
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        folder = os.environ.get(variable)
        if folder and (Path(folder) / "bin" / "python").exists():
            return str(Path(folder) / "bin" / "python")
    return sys.executable or "python3"


def conda_root() -> str | None:
    """The caller's conda installation, as conda itself announces it."""
    executable = os.environ.get("CONDA_EXE")
    return str(Path(executable).parent.parent) if executable else None


class NearPlace:
    """See :class:`hpcrun.places.base.Place`."""

    host: str | None = None

    def __init__(self, site: str, root: str | None, environments: str | None = None) -> None:
        self._site = site
        self._root = root
        self._environments = environments

    def run_dir(self, home: Path, run_id: str, *, ask: bool = True) -> str:
        if self._root is None:
            return str(home)
        return str(self._expanded("root", self._root) / "runs" / run_id)

    def environments(self, workspace: Path, *, ask: bool = True) -> str:
        if self._environments is not None:
            return str(self._expanded("environments.root", self._environments))
        root = workspace if self._root is None else self._expanded("root", self._root)
        return str(root / "environments")

    def _expanded(self, key: str, path: str) -> Path:
        expanded = Path(os.path.expandvars(path)).expanduser()
        if not expanded.is_absolute():
            raise ConfigError(f"the {key} of site {self._site!r} is no absolute path here: {path}")
        return expanded

    def here(self) -> Here:
        return Here(current_python(), conda_root())

    def fill(self, history: History, record: RunRecord, values: Mapping[str, Secret] | None) -> bool:
        home, there = history.paths.run(record.id), RunPaths(Path(record.run_dir))
        with private():
            there.folder.mkdir(parents=True, exist_ok=True)
            if not there.script.exists():
                assert record.snapshot is not None
                if there.code.exists():
                    shutil.rmtree(there.code)  # half of a working copy, left by a process that was killed
                store = SnapshotStore(history.paths.snapshots, LocalShell())
                store.check_out(record.snapshot["id"], there.code)
            for folder in (there.outputs, there.logs, there.user_logs, there.system_logs, there.metrics):
                folder.mkdir(parents=True, exist_ok=True)
            if record.type == "function":
                there.results.mkdir(exist_ok=True)
                if not there.function.exists():
                    write_bytes(there.function, home.function.read_bytes())
            # Slurm would make it by the umask that sbatch is called with, and appends to one that is there.
            touch(there.system_logs / "job.txt")
            places = record.config.get("secrets")
            if places and not there.secrets.exists():
                write(there.secrets, secrets.text_of(values or secrets.resolve(places)))
            for name, text in lib.files().items() if lib.wanted(record) else ():
                (there.folder / lib.FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
                write(there.folder / lib.FOLDER / name, text)
            write(home.config, record.config["yaml"])
            write(there.script, record.submission["script"])  # last: it says that the rest is there
            _link_home(home, there, {"results": there.results} if record.type == "function" else {})
        made = record.config.get("environment")
        return not made or is_made(f"{made['root']}/{made['name']}-{platform.machine()}")

    def give(
        self, record: RunRecord, given: Given, path: Path, *, trusted: bool, on_send: OnSend | None
    ) -> None:
        """It is there: the run reads it where it is."""

    def gather(self, records: Sequence[RunRecord], script: str) -> None:
        folder = Path(submitted_from(records[0]))
        with private():
            folder.mkdir(parents=True, exist_ok=True)
            for index, log in logs_of(records).items():
                link = folder / f"{index}.txt"
                if not link.is_symlink():
                    link.symlink_to(log)
            write(folder / "job.sh", script)

    def share(self, history: History, record: RunRecord, table: Table, script: str) -> None:
        there = RunPaths(Path(submitted_from(record)))
        with private():
            there.folder.mkdir(parents=True, exist_ok=True)
            if not there.script.exists():
                if there.code.exists():
                    shutil.rmtree(there.code)
                SnapshotStore(history.paths.snapshots, LocalShell()).check_out(table.snapshot, there.code)
            record.submission["script"] = table.script
            for name, text in lib.files().items() if lib.wanted(record) else ():
                (there.folder / LIB / name).parent.mkdir(parents=True, exist_ok=True)
                write(there.folder / LIB / name, text)
            write(there.folder / TABLE, table_text(table))
            write(there.folder / TEMPLATE, table.script)
            write(there.script, script)  # last: it says that the rest is there

    def unshare(self, record: RunRecord) -> None:
        folder = Path(submitted_from(record))
        if folder.parent.name == "arrays":
            remove_tree(folder)

    def script(self, history: History, record: RunRecord) -> str:
        return RunPaths(Path(record.run_dir)).script.read_text(encoding="utf-8")

    def look(self, history: History, records: Iterable[RunRecord]) -> None:
        """Nothing is to be brought: it is read where the job writes it."""

    def find(self, history: History, record: RunRecord, scheduler: Scheduler) -> Found:
        status = read_status(RunPaths(Path(record.run_dir)).status)
        if status is not None and status.job_id:
            return Found(status.job_id, answered=True)
        answer = scheduler.query([replace(ref_of(record), job_id=None)])
        facts = answer.facts.get(record.id)
        return Found(facts.job_id if facts else None, answered=answer.complete)

    def forget(self, history: History, record: RunRecord) -> None:
        try:
            RunPaths(Path(record.run_dir)).secrets.unlink(missing_ok=True)
        except OSError:
            pass  # the folder is gone, or not ours any more: nothing of the run's record depends on it


def is_made(folder: str) -> bool:
    """Whether an environment is there, whole."""
    return (Path(folder) / "environment.json").exists()
