"""Whether a run's code speaks of hpcrun: then the run brings along what scripts use, see places/lib.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hpcrun.models.run import ScriptRunConfig
from hpcrun.snapshot_git import Store

_WORD = b"hpcrun"
_SUFFIXES = (".py", ".ipynb", ".sh", ".R", ".jl", ".pl")
_MOST_FILES, _MOST_BYTES = 500, 4 << 20
_ELSEWHERE = {"__pycache__", "node_modules", "site-packages", "outputs", "logs"}


def speaks_of_hpcrun(config: ScriptRunConfig, store: Store, tree: str | None) -> bool:
    """Whether the script, the command, or any program beside them does; of the snapshot ``tree``, or else of
    the source directory as it is now. Where there is too much to look at, it is taken for granted."""
    told = [config.command or "", *(config.arguments or [])]
    if any("hpcrun" in str(word) for word in told):
        return True
    if tree is not None:
        return store.run("grep", "-qIFe", _WORD.decode(), tree).ok
    source = Path(config.source_directory)
    size = 0
    for count, path in enumerate(_programs(source, config.script)):
        try:
            data = path.read_bytes()
        except OSError:
            continue
        size += len(data)
        if _WORD in data or count >= _MOST_FILES or size > _MOST_BYTES:
            return True
    return False


def _programs(source: Path, script: str | None) -> Iterator[Path]:
    """The script first, in which it most often stands."""
    if script:
        yield source / script
    for folder, folders, files in os.walk(source):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _ELSEWHERE]
        if "pyvenv.cfg" in files:
            folders.clear()
            continue
        yield from (Path(folder) / file for file in files if file.endswith(_SUFFIXES))
