"""Environments made on the caller's machine for another one that has nothing to make them with: conda's.

The builder over there has the lock and lives on; it only waits until its prefix is brought. So it is made
once, nothing half there has a name, and what comes after (packages by pip, what the prefix holds) is done as
ever.
Whoever looks at a run that waits for it may bring it; of several on this machine, one does.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hpcrun.engine.environments import Stand
from hpcrun.errors import CommandError, HistoryError, UnreachableError
from hpcrun.history.files import locked
from hpcrun.places.copying import workspace_word
from hpcrun.places.writing import private
from hpcrun.render_build import files_of
from hpcrun.shells.base import RemoteShell
from hpcrun.shells.local import LocalShell
from hpcrun.shells.scripts import source
from hpcrun.transfer.send import send

_ASK, _MAKE = 60.0, 4 * 3600.0
_PROGRAM = "conda_rattler.py"
_LISTS = ("channels.txt", "specs.txt", "explicit.txt")
_SUBDIRS = {"x86_64": "linux-64", **{m: f"linux-{m}" for m in ("aarch64", "ppc64le", "s390x")}}
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*")


def bring(shell: RemoteShell, made: Mapping[str, Any], script: str, stand: Stand, seconds: float) -> None:
    """Make what the builder of ``stand`` waits for, and send it. ``script`` is that builder. Another process
    that is at it is left alone, after ``seconds``.

    Raises UnreachableError where the connection broke: whoever looks next begins again, and sends the rest.
    """
    if find_spec("rattler") is None:  # others asked for it, who have that: it is waited for
        time.sleep(seconds)
        return
    import platformdirs

    cache = platformdirs.user_cache_path("hpcrun") / "conda"
    with private():
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with locked(cache / f"{made['name']}.lock", seconds=seconds):
                _Bringing(shell, str(made["root"]), stand.folder, cache).do(files_of(script))
        except HistoryError:
            return


class _Bringing:
    def __init__(self, shell: RemoteShell, root: str, folder: str, cache: Path) -> None:
        self._shell, self._root, self._folder, self._cache = shell, root, folder, cache

    def do(self, files: Mapping[str, bytes]) -> None:
        facts = dict(line.split(" ", 1) for line in self._say("ask").splitlines() if " " in line)
        if "folder" not in facts:
            return  # it was brought meanwhile, or is given up
        part = f"{facts['folder']}/prefix.{workspace_word(str(self._cache))}"
        with tempfile.TemporaryDirectory(prefix="prefix-", dir=self._cache) as name:
            folder = Path(name)
            try:
                machine = machine_of(facts, files.get("overrides.txt", b"").decode())
                tool = self._make(folder, files, {**machine, "prefix": f"{facts['folder']}/prefix"})
                send(self._shell, folder / "prefix", part, links="keep")
            except UnreachableError:
                raise
            except (CommandError, OSError) as exc:
                self._say("failed", text=f"{exc}\n" if str(exc).startswith("ERROR") else f"ERROR: {exc}\n")
            else:
                self._say(tool, part)

    def _make(self, folder: Path, files: Mapping[str, bytes], machine: Mapping[str, Any]) -> str:
        """Have the prefix in ``folder``; what made it. Raises CommandError with what the solver says."""
        for each in (_PROGRAM, *_LISTS):
            if each in files:
                (folder / each).write_bytes(files[each])
        (folder / "machine.json").write_text(json.dumps(machine))
        shell = LocalShell()
        ask = "import rattler; print('py-rattler', rattler.__version__)"
        tool = shell.run([sys.executable, "-c", ask], timeout=_ASK).check("looking for py-rattler").stdout
        argv = [
            sys.executable,
            _PROGRAM,
            str(folder / "prefix"),
            str(self._cache / "rattler"),
            "machine.json",
        ]
        result = shell.run(argv, timeout=_MAKE, cwd=folder)
        if not result.ok:
            said = result.stderr.strip() if result.rc == 1 else result.describe("making it with py-rattler")
            raise CommandError(f"{result.stdout}{said}" if said.startswith("ERROR") else said)
        self._say("log", text=result.stdout)
        return tool.strip()

    def _say(self, word: str, part: str = "", *, text: str = "") -> str:
        words = [self._root, self._folder, word, part]
        result = self._shell.script(source("folders", "env_bring"), words, timeout=_ASK, stdin=text)
        if result.timed_out:
            raise UnreachableError(result.describe("bringing an environment"))
        return result.check(f"bringing an environment to {self._shell.host}").stdout


def machine_of(facts: Mapping[str, str], overrides: str) -> dict[str, Any]:
    """What py-rattler is to know of a machine: its subdir, and its virtual packages, with those that
    ``CONDA_OVERRIDE_*`` sets. Raises CommandError for one that conda has no packages for."""
    machine = facts.get("machine", "")
    if machine not in _SUBDIRS:
        raise CommandError(f"conda has no packages for {machine or 'a machine that does not say what it is'}")
    known = {
        name: found[0]
        for name in ("linux", "glibc", "cuda")
        if (found := _VERSION.match(facts.get(name, "")))
    }
    for line in overrides.splitlines():
        name, _, value = line.removeprefix("CONDA_OVERRIDE_").partition("=")
        known[name.lower()] = value
    virtual = [["__unix", "0", "0"]]
    virtual += [[f"__{n}", known[n], "0"] for n in ("linux", "glibc", "cuda") if known.get(n)]
    virtual.append(["__archspec", "1", known.get("archspec") or machine])
    return {"subdir": _SUBDIRS[machine], "virtual": virtual}
