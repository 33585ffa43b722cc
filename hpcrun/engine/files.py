"""A run's files, as the history shows them: names relative to the run's folder, nothing from outside it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from hpcrun.errors import NotFoundError
from hpcrun.history.paths import RunPaths
from hpcrun.names import PARTIAL

FOLDERS = ("outputs", "logs", "user_logs", "system_logs")


def file_names(home: RunPaths, folders: tuple[str, ...] = FOLDERS) -> list[str]:
    """Names such as ``outputs/model.pt``, sorted by folder and name.

    A link that leads out of the run's folder is not the run's file, and is left out.
    """
    return [name for folder in folders for name in sorted(_names(home, folder))]


def _names(home: RunPaths, folder: str) -> Iterator[str]:
    top = home.folder / folder
    if not top.is_dir():
        return
    inside = Path(os.path.realpath(top))
    for current, folders, files in os.walk(inside, followlinks=False):
        if PARTIAL in folders:
            folders.remove(PARTIAL)  # what has come of a file that is still on its way
        for file in files:
            path = Path(current) / file
            if path.is_symlink() and not _within(path, inside.parent):
                continue
            if path.is_file():
                yield f"{folder}/{path.relative_to(inside)}"


def _within(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(folder)


def find_file(home: RunPaths, name: str) -> Path:
    """Where the run's file ``name`` lies. Raises NotFoundError, naming those there are."""
    names = file_names(home)
    if name not in names:
        shown = ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
        raise NotFoundError(f"the run has no file {name!r}", hint=f"It has: {shown or 'none yet'}")
    return home.folder / name


def download(home: RunPaths, name: str, destination: str | os.PathLike[str] | None = None) -> Path:
    """Copy the run's file ``name`` to ``destination``: a folder, a file's name, or by default the working
    directory. Parent folders are made. The copy appears whole or not at all.

    Raises NotFoundError for a name the run does not have.
    """
    source = find_file(home, name)
    place = Path(destination) if destination is not None else Path.cwd()
    ends_as_folder = destination is not None and str(destination).endswith(os.sep)
    if place.is_dir() or ends_as_folder:
        place = place / source.name
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        shutil.copyfile(source, temporary)
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)
    return place


def download_all(
    home: RunPaths,
    prefix: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    append_prefix: bool = True,
) -> list[Path]:
    """Copy all files in the run's folder ``prefix`` (``outputs/deep``), or the one file of that name, into
    ``folder``: under their whole names, or without the prefix.

    Raises NotFoundError where there are none, naming those there are.
    """
    names = file_names(home)
    wanted = (prefix or "").rstrip("/")
    found = [name for name in names if not wanted or name == wanted or name.startswith(f"{wanted}/")]
    if not found:
        shown = ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
        what = f"the run has no files in {prefix!r}" if wanted else "the run has no files yet"
        raise NotFoundError(what, hint=f"It has: {shown or 'none yet'}")
    place = Path.cwd() if folder is None else Path(folder)
    copies = []
    for name in found:
        inner = name if append_prefix or not wanted else name.removeprefix(wanted).lstrip("/")
        copies.append(download(home, name, place / (inner or Path(name).name)))
    return copies
