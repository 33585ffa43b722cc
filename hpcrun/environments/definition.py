"""An Apptainer definition file, read for what it names: files to copy in, and images to begin with.

    Bootstrap: localimage
    From: base.sif

    %files
        requirements.txt /opt/requirements.txt

Both decide what comes out, so both are part of the content that an image is made once for.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from hpcrun.environments.recipe import Read
from hpcrun.errors import ConfigError, Problem

LIMIT = 64 * 1024 * 1024
"""Bytes, of all files together that a definition names: they are sent to where the image is built."""

_HEADER = re.compile(r"([A-Za-z]+)\s*:\s*(.*)")
_LOCAL = {"localimage", "oci", "oci-archive", "docker-archive"}
_KEY = "environment.apptainer.definition"


@dataclass(frozen=True)
class Named:
    """A path that stands in a definition; ``what`` is how it got there."""

    path: str
    line: int
    what: str


def named_in(text: str) -> Iterator[Named]:
    """The local paths that a definition names, in their order. Raises ValueError for a line that is none."""
    section, bootstrap = "", ""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        if re.match(r"bootstrap\s*:", words, re.IGNORECASE):
            section = ""  # another stage
        if words.startswith("%"):
            section = words
        elif not section:
            header = _HEADER.match(words)
            key, value = (header[1].lower(), header[2].strip()) if header else ("", "")
            bootstrap = value.lower() if key == "bootstrap" else bootstrap
            if key == "from" and bootstrap in _LOCAL:
                yield Named(value, number, "From")
        elif section.split()[0] == "%files" and "from" not in section.split()[1:2]:
            try:
                yield Named(shlex.split(words, comments=True)[0], number, "%files")
            except ValueError as error:
                raise ValueError(f"{number}: {error}") from None


@dataclass(frozen=True)
class Definition:
    """``files`` are the definition itself, by ``name``, and all that it names, by their paths in the folder
    in which the image is built; ``bases`` the images on the target that it begins with."""

    name: str
    files: dict[str, bytes]
    bases: list[str]


def read_definition(path: str, read: Read) -> Definition:
    """The definition in the file ``path``, and the files that it names, which are relative to the source
    directory, or to the definition's folder if that is an absolute path.

    Raises ConfigError.
    """
    base, name = posixpath.split(path) if path.startswith("/") else ("", posixpath.normpath(path))
    content = _content(path, read, Problem("", path=_KEY))
    files, bases = {name: content}, []
    for named in _named(content, path):
        at = Problem("", where=f"{path}:{named.line}", path=_KEY)
        if named.what == "From" and named.path.startswith("/"):
            bases.append(named.path)
            continue
        _refuse(named, at)
        below = posixpath.normpath(named.path)
        files[below] = _content(posixpath.join(base, below), read, at)
        if sum(map(len, files.values())) > LIMIT:
            raise _error(
                at,
                f"what this definition copies is more than {LIMIT >> 20} MB",
                "Put what is large on the target, and bind it when the run is started; or begin with an "
                "image that lies there, by its absolute path.",
            )
    return Definition(name, files, bases)


def _named(content: bytes, path: str) -> list[Named]:
    try:
        return list(named_in(content.decode()))
    except UnicodeDecodeError:
        raise _error(Problem("", where=path, path=_KEY), "is not text in UTF-8", "") from None
    except ValueError as error:
        line, _, words = str(error).partition(": ")
        raise _error(Problem("", where=f"{path}:{line}", path=_KEY), words, "") from None


def _refuse(named: Named, at: Problem) -> None:
    """What cannot be told to be the same the next time is not built from."""
    if "{{" in named.path:
        raise _error(
            at,
            f"{named.path}: a path may hold no variable",
            "Its content decides what comes out, so it must be known before: write the path out.",
        )
    if named.path.startswith("/"):
        raise _error(
            at,
            f"{named.path} is an absolute path",
            "An image is built once for each content: copy the file into the source directory.",
        )
    if posixpath.normpath(named.path).split("/")[0] == "..":
        raise _error(at, f"{named.path} lies outside the source directory", "Copy it into it.")
    if re.search(r"[*?\[]", named.path):
        raise _error(at, f"{named.path}: a pattern", "Name each file on a line of its own.")


def _content(path: str, read: Read, at: Problem) -> bytes:
    try:
        return read(path)
    except IsADirectoryError:
        raise _error(
            at,
            f"{path} is a folder",
            "Name each file on a line of its own; or pack them (tar -cf files.tar FOLDER), and unpack them "
            "in %post.",
        ) from None
    except FileNotFoundError:
        raise _error(at, f"there is no file {path}", "Paths are relative to the source directory.") from None
    except OSError as error:
        raise _error(at, f"{path} cannot be read: {error.strerror or error}", "") from None


def _error(at: Problem, message: str, hint: str) -> ConfigError:
    return ConfigError([Problem(message, where=at.where, path=at.path, hint=hint)])
