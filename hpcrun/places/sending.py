"""One attempt to make a run's folder on another machine complete: which questions are put, in which order.

A snapshot that the site has costs one question, and one that this workspace has not sent there yet costs one
more at most: what is sent leaves out what earlier ones hold.
"""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from hpcrun.errors import ConfigError
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.places import lib, secrets
from hpcrun.quoting import Secret
from hpcrun.shells.base import Result, Stdin
from hpcrun.shells.local import LocalShell
from hpcrun.snapshot import SnapshotStore
from hpcrun.snapshot_git import STORE_ATTRIBUTES, STORE_CONFIG

_NO_LIB, _MISSING, _NO_GIT = 89, 94, 96

NO_ENVIRONMENT = 90
"""All is there but the environment that the run wants."""

_WORTH_XZ = 8 << 20
"""Bytes up to which the better compression is not the slower one, sending included."""


class Filled(Protocol):
    """The far end, as :class:`hpcrun.places.far.FarPlace` is one."""

    @property
    def trees(self) -> list[str]: ...

    @property
    def tools(self) -> list[str]: ...

    @property
    def lib(self) -> str: ...

    def note(
        self, *, tree: str | None = None, tools: list[str] | None = None, lib: str | None = None
    ) -> None: ...

    def ask_for(self, words: list[str]) -> Result: ...

    def ask_to_keep(self, words: list[str], stdin: Stdin) -> Result: ...

    def ask_to_fill(self, words: list[str], stdin: Stdin) -> Result: ...

    def copying(self) -> AbstractContextManager[bool]: ...

    def send_copy(self, store: SnapshotStore, tree: str, root: str, others: list[str]) -> Result: ...


class Sending:
    """See above. ``news``: there is something to be remembered of the site."""

    def __init__(
        self,
        place: Filled,
        history: History,
        record: RunRecord,
        values: Mapping[str, Secret] | None,
        array: tuple[str, str] | None = None,
    ) -> None:
        """``array``: the name of an array, and its script, whose folder is made in the place of the run's."""
        assert record.snapshot is not None
        self._place = place
        self._store = SnapshotStore(history.paths.snapshots, LocalShell())
        self._tree = str(record.snapshot["id"])
        self.root = record.run_dir.removesuffix(f"/runs/{record.id}")
        self.unreadable: ConfigError | None = None
        """Why the secrets cannot be sent: then they have to be there from an earlier attempt."""
        tries = str(record.submission.get("tries", 0))
        self.news = False
        self._before = [self.root, f"../arrays/{array[0]}" if array else record.id, self._tree]
        self._token = [tries, os.urandom(6).hex()]
        self._call = history.paths.run(record.id).function if record.type == "function" else None
        self._lib, self._modules = lib.packed() if lib.wanted(record) else ("", "")
        script = array[1] if array else str(record.submission["script"])
        self._run = [script, self._secrets(record, values)]
        made = record.config.get("environment")
        self._environment = [f"{made['root']}/{made['name']}"] if made else []

    def _secrets(self, record: RunRecord, values: Mapping[str, Secret] | None) -> str:
        places = record.config.get("secrets")
        if not places:
            return ""
        try:
            return secrets.text_of(values or secrets.resolve(places))
        except ConfigError as exc:
            self.unreadable = exc
            return "-"

    def run(self) -> Result:
        result = self._send_call()
        result = self._send() if result is None or result.ok else result
        if result.rc == _NO_LIB:  # it was there once; of all else nothing is missing
            self._place.note(lib="")
            result = self._fill("store")
        if result.rc in (0, NO_ENVIRONMENT) and self._lib not in ("", self._place.lib):
            self._place.note(lib=self._lib)
            self.news = True
        return result

    def _send_call(self) -> Result | None:
        """First: the job's script, which comes last, says that all is there."""
        if self._call is None:
            return None
        with self._call.open("rb") as stream:
            size = str(os.fstat(stream.fileno()).st_size)
            return self._place.ask_to_keep([*self._before[:2], size, *self._token], stream)

    def _send(self) -> Result:
        if self._tree not in self._place.trees and self._place.tools:
            result = self._pack("pack", self._place.trees)
        else:
            known = self._tree in self._place.trees
            result = self._fill("store") if known else self._place.ask_for([self.root, self._tree])
            if result.ok and not known:
                result = self._fill("store")
            elif result.rc == _MISSING:
                result = self._pack("pack", self._others(result))
        if result.rc == _MISSING:  # of what it builds on something has been lost there
            result = self._pack("all", [])
        elif result.rc == _NO_GIT:
            result = self._fill("copy")
            if result.rc == _MISSING:
                result = self._copy(self._others(result, tools=False))
        if result.rc in (0, NO_ENVIRONMENT) and self._tree not in self._place.trees:
            self._place.note(tree=self._tree)
            self.news = True
        return result

    def _others(self, result: Result, *, tools: bool = True) -> list[str]:
        """The snapshots that are there."""
        lines = result.stdout.splitlines()
        if tools:
            found = [line.removeprefix("with ") for line in lines if line.startswith("with ")]
            self._place.note(tools=found)
        return [line for line in lines if not line.startswith("with ")]

    def _fill(self, how: str, stdin: Stdin = None, tool: str = "") -> Result:
        words = [
            *self._before,
            how,
            tool,
            *self._token,
            *self._run,
            STORE_CONFIG,
            STORE_ATTRIBUTES,
            *(self._environment or ([""] if self._lib else [])),
            *([self._lib, "" if self._lib == self._place.lib else self._modules] if self._lib else []),
        ]
        return self._place.ask_to_fill(words, stdin)

    def _pack(self, how: str, have: list[str]) -> Result:
        with tempfile.TemporaryDirectory(prefix="hpcrun-") as folder:
            pack = self._store.pack(self._tree, have, Path(folder))
            squeezed, tool = squeeze(pack, self._place.tools)
            with squeezed.open("rb") as stream:
                return self._fill(how, stream, tool)

    def _copy(self, others: list[str]) -> Result:
        with self._place.copying() as waited:
            if waited:
                result = self._fill("copy")
                if result.rc != _MISSING:
                    return result
            result = self._place.send_copy(self._store, self._tree, self.root, others)
            return self._fill("copy") if result.ok else result


def squeeze(pack: Path, tools: list[str]) -> tuple[Path, str]:
    """A pack, compressed for what there is to unpack it with; and the program that does."""
    place = pack.with_suffix(".squeezed")
    if "xz" in tools and pack.stat().st_size <= _WORTH_XZ:
        with pack.open("rb") as source, lzma.open(place, "wb", preset=1) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        return place, "xz"
    if "gzip" in tools:
        with pack.open("rb") as source, gzip.open(place, "wb", compresslevel=6) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        return place, "gzip"
    return pack, "cat"
