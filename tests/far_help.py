"""A site on another machine, played by folders of this one: its shell is any POSIX shell there is here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from hpcrun import Workspace
from hpcrun.history.record import RunRecord, new_run_id
from hpcrun.models.site import Site
from hpcrun.places.far import FarPlace
from hpcrun.shells import framing
from hpcrun.shells.base import Result, Rsh
from hpcrun.shells.framed import FramedShell
from hpcrun.shells.local import LocalShell
from hpcrun.shells.streams import Asked
from hpcrun.snapshot import SnapshotStore

SHELLS = {
    "dash": ["dash"],
    "bash": ["bash", "--posix"],
    "busybox": ["busybox", "sh"],
}
"""By name, with what starts them; those that are missing here are passed over."""

NEEDED = (
    *(
        "sh",
        "base64",
        "cat",
        "chmod",
        "cksum",
        "cp",
        "date",
        "dd",
        "env",
        "find",
        "grep",
        "head",
        "id",
        "ln",
        "ls",
        "mkdir",
    ),
    *("mv", "readlink", "rm", "rmdir", "sed", "sort", "tail", "tar", "timeout"),
)
"""All that the scripts use, of what POSIX has and a little more."""

SCRIPT = '#!/bin/bash\n# a script\'s \\ "text" % $(id)\n'


def present() -> list[str]:
    return [name for name, argv in SHELLS.items() if shutil.which(argv[0])]


class FarHere(FramedShell):
    """See :class:`hpcrun.shells.base.RemoteShell`. ``asked`` holds the words of each question; ``cut`` is
    called with their number before each, and may raise or say what became of it."""

    def __init__(self, folder: Path, kind: str = "dash") -> None:
        super().__init__("far")
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.asked: list[Sequence[str]] = []
        self.before: Callable[[int], Result | None] = lambda number: None
        self.sent = 0  # bytes, of what was read from files
        self._argv = SHELLS[kind]
        tools = folder / "bin"
        tools.mkdir()
        if kind == "busybox":  # nothing but BusyBox's own programs, and git
            LocalShell().run(["busybox", "--install", "-s", str(tools)], timeout=60).check()
            wanted = ["git"]
        else:
            wanted = [*NEEDED, "git", "rsync", "xz", "gzip"]
        for name in wanted:
            program = shutil.which(name)
            if program and not (tools / name).exists():
                (tools / name).symlink_to(program)
        self.tools = tools
        self.env = {"HOME": str(self.home), "PATH": str(tools), "USER": "alice"}

    def hide(self, program: str) -> None:
        (self.tools / program).unlink(missing_ok=True)

    def _talk(self, asked: Asked) -> Result:
        self.asked.append(asked.words)
        if (answer := self.before(len(self.asked))) is not None:
            return answer
        if asked.stdin is not None and not isinstance(asked.stdin, (str, bytes)):
            self.sent += os.fstat(asked.stdin.fileno()).st_size
        program = shutil.which(self._argv[0])
        assert program is not None
        return asked.put([program, *self._argv[1:], "-c", framing.READ], self.env).result

    @contextmanager
    def rsh(self) -> Iterator[Rsh]:
        yield Rsh(["env", f"PATH={self.tools}", "sh", "-c", 'shift; exec sh -c "$*"', "rsh"], self.host)

    def close(self) -> None:
        """There is nothing to let go of."""


class Far:
    """A workspace, a source directory, and a site that is far."""

    def __init__(self, folder: Path, kind: str = "dash", root: str = "$HOME/r o'o\"t%") -> None:
        self.shell = FarHere(folder / "site", kind)
        (folder / "here").mkdir(parents=True)
        self.workspace = Workspace(folder / "here")
        self.source = folder / "here/src"
        self.source.mkdir()
        (self.source / "a.py").write_text("print(1)\n")
        self.store = SnapshotStore(self.workspace.history.paths.snapshots, LocalShell())
        self.site = Site(name="far", root=root)
        self.place = self.new_place()

    def new_place(self) -> FarPlace:
        return FarPlace(self.site, self.shell, self.workspace.folder)

    @property
    def root(self) -> Path:
        return Path(self.place.root())

    def record(self, *, secrets: Mapping[str, str] | None = None) -> RunRecord:
        """A run that is about to be sent, with the source as it is now."""
        tree = self.store.take(self.source).id
        run_id = new_run_id("exp")
        self.workspace.history.paths.run(run_id).folder.mkdir(parents=True)
        run_dir = self.place.run_dir(Path("unused"), run_id)
        config = {"yaml": "script: a.py\n", "secrets": dict(secrets or {})}
        record = RunRecord(
            id=run_id, experiment="exp", target="far", scheduler="slurm", run_dir=run_dir, host="far"
        )
        record.config, record.snapshot, record.submission = config, {"id": tree}, {"script": SCRIPT}
        return record

    def fill(self, record: RunRecord | None = None) -> Path:
        """Have a run's folder there; it."""
        record = record or self.record()
        self.place.fill(self.workspace.history, record, None)
        return Path(record.run_dir)


def modes(folder: Path) -> dict[str, int]:
    """The permissions of all that is in a folder, links left out."""
    found = [folder, *folder.rglob("*")]
    return {os.fsdecode(path): path.stat().st_mode & 0o777 for path in found if not path.is_symlink()}
