"""What is wrong with a script, as far as its text tells."""

from __future__ import annotations

import re
import shlex
import warnings
from dataclasses import dataclass

_BASH_SAID = re.compile(r"^.*?: line (\d+): (.+)$", re.MULTILINE)
_EXPANDED = re.compile(r"[$`*?\[{~;&|()<>]")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


@dataclass(frozen=True)
class Fault:
    """A syntax error: in which line (from 1, 0 where that is not known), and that line."""

    line: int
    message: str
    text: str = ""


def python_fault(source: bytes) -> Fault | None:
    """The first syntax error of a Python source, to the Python that this is. Nothing of it is run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an odd escape in a string is no error
        try:
            compile(source, "<script>", "exec", dont_inherit=True)
        except SyntaxError as error:
            line = error.lineno or 0
            return Fault(line, error.msg, _line(source, line))
        except (ValueError, RecursionError, MemoryError, OverflowError) as error:
            return Fault(0, str(error) or type(error).__name__)
    return None


def bash_fault(stderr: str, source: bytes) -> Fault | None:
    """The syntax error that ``bash -n`` tells of."""
    said = _BASH_SAID.search(stderr)
    if said is None:
        return None
    line = int(said[1])
    return Fault(line, said[2], _line(source, line))


def _line(source: bytes, number: int) -> str:
    lines = source.decode("utf-8", "replace").splitlines()
    return lines[number - 1].strip()[:300] if 0 < number <= len(lines) else ""


def crlf(source: bytes) -> bool:
    """Whether the first line ends as on Windows: bash takes the carriage return for a part of it."""
    return source.partition(b"\n")[0].endswith(b"\r")


def interpreter(source: bytes) -> str | None:
    """The program that the ``#!`` line names; None for no such line, empty for a file that needs none."""
    if source.startswith((b"\x7fELF", b"\xca\xfe\xba\xbe")):
        return ""
    if not source.startswith(b"#!"):
        return None
    words = source.partition(b"\n")[0][2:].decode("utf-8", "replace").split()
    return words[0] if words else None


def first_word(command: str | list[str]) -> str:
    """The program that a command starts; empty where it is not plain to see."""
    if not isinstance(command, str):
        return command[0]
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)  # so that "./a; b" begins with ./a
    lexer.whitespace_split = True
    try:
        word = next((word for word in lexer if not _ASSIGNMENT.match(word)), "")
    except ValueError:
        return ""
    return "" if _EXPANDED.search(word) else word
