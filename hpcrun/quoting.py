"""Text that is safe where it is put: by its type, not by care.

The script templates accept nothing but these types (and whole numbers), so that a raw string
can never reach a shell or a ``#SBATCH`` line unquoted:

* :class:`ShellWord`  one word for bash, whatever is in it (:class:`PosixWord`: for any shell);
* :class:`Directive`  one ``#SBATCH --name=value``;
* :class:`ShellText`  shell source composed from literals written in hpcrun and safe words;
* :class:`Comment`    one line after a ``#``;
* :class:`Secret`     never shown, never written by accident.
"""

from __future__ import annotations

import re
import shlex

_OPTION = re.compile(r"[a-z][a-z0-9-]*\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_./:,=@+%-]+\Z")
# As the first word of a command these mean something else to bash than a program's name: unless quoted.
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_RESERVED_WORDS = {
    "if", "then", "else", "elif", "fi", "case", "esac", "for", "select", "while", "until", "do", "done",
    "in", "function", "time", "coproc",
}  # fmt: skip
# Anywhere in a directive's line, Slurm's burst buffer plug-ins take these for the start of another component
# of a heterogeneous job, and older sbatch blanks the second out. sbatch 24.11 itself does not mind.
_JOB_SPLITTER = re.compile(r"(het|pack)(job)", re.IGNORECASE)


def is_variable_name(name: str) -> bool:
    """Whether ``name`` may be exported by a shell."""
    return _VARIABLE.match(name) is not None


def _refuse(text: str, what: str, *, newline: bool) -> None:
    if "\0" in text:
        raise ValueError(f"{what} may not hold a NUL character")
    if newline and ("\n" in text or "\r" in text):
        raise ValueError(f"{what} may not hold a line break: {text!r}")


class ShellWord:
    """One word for bash: quoted so that it comes out as it went in. A NUL cannot be in any."""

    __slots__ = ("raw",)

    def __init__(self, raw: object) -> None:
        self.raw = str(raw)
        _refuse(self.raw, "a shell word", newline=False)

    def __str__(self) -> str:
        if "\r" in self.raw:
            # sbatch refuses a script with a carriage return at a line's end, wherever it stands.
            escaped = self.raw.replace("\\", "\\\\").replace("'", "\\'")
            return "$'" + escaped.replace("\r", "\\r").replace("\n", "\\n") + "'"
        if self.raw in _RESERVED_WORDS or self.raw.startswith("=") or _ASSIGNMENT.match(self.raw):
            return "'" + self.raw.replace("'", "'\"'\"'") + "'"
        return shlex.quote(self.raw)

    def __repr__(self) -> str:
        return f"ShellWord({self.raw!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShellWord) and other.raw == self.raw

    def __hash__(self) -> int:
        return hash((ShellWord, self.raw))


class PosixWord(ShellWord):
    """One word for any POSIX shell, dash and busybox too: for source that never stands in a batch script,
    so that a carriage return needs no spelling that only bash knows."""

    __slots__ = ()

    def __str__(self) -> str:
        return "'" + self.raw.replace("'", "'\"'\"'") + "'"


class Directive:
    """One ``#SBATCH --name=value`` line; ``value=None`` makes a bare flag.

    Slurm reads these lines with a parser of its own: inside double quotes, with ``\\`` and ``"``
    escaped, every value comes through; inside single quotes backslashes are lost (seen on 24.11).
    A line break would begin a new directive, so it is refused. ``hetjob`` in a value may be
    taken for a separator, so it is broken up by a backslash, which the parser drops (seen on 24.11).
    """

    __slots__ = ("name", "value")

    def __init__(self, name: str, value: object | None = None) -> None:
        if not _OPTION.match(name):
            raise ValueError(f"not the name of an sbatch option: {name!r}")
        self.name = name
        self.value = None if value is None else str(value)
        if self.value is not None:
            _refuse(self.value, f"--{name}", newline=True)

    def __str__(self) -> str:
        if self.value is None:
            return f"#SBATCH --{self.name}"
        if _PLAIN_VALUE.match(self.value) and not _JOB_SPLITTER.search(self.value):
            return f"#SBATCH --{self.name}={self.value}"
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"')
        escaped = _JOB_SPLITTER.sub(r"\1\\\2", escaped)
        return f'#SBATCH --{self.name}="{escaped}"'

    def __repr__(self) -> str:
        return f"Directive({self.name!r}, {self.value!r})"


class Comment:
    """The text of a one-line comment; line breaks become spaces, since nothing depends on it."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = re.sub(r"[\x00-\x1f\x7f]+", " ", text)

    def __str__(self) -> str:
        return self.text


class ShellText:
    """Shell source: a literal of hpcrun's own with safe words set into its ``{}``.

    ``ShellText("cd -- {} || exit", ShellWord(path))``. The literal comes from hpcrun's code, never
    from a user; braces of the shell's own are doubled, as in :meth:`str.format`.
    """

    __slots__ = ("_text",)

    def __init__(self, literal: str, *words: ShellWord | ShellText | int) -> None:
        for word in words:
            if not isinstance(word, (ShellWord, ShellText, int)):
                raise TypeError(f"not safe in shell text: {word!r}")
        self._text = literal.format(*words) if words else literal.replace("{{", "{").replace("}}", "}")

    @classmethod
    def trusted(cls, source: str) -> ShellText:
        """Source the user means as shell source (``command:``, a site's ``setup`` lines), unchanged."""
        _refuse(source, "shell source", newline=False)
        text = cls("")
        text._text = source
        return text

    @classmethod
    def join(cls, separator: str, parts: list[Safe]) -> ShellText:
        return cls(separator.join("{}" for _ in parts), *parts) if parts else cls("")

    def __str__(self) -> str:
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return f"ShellText({self._text!r})"


Safe = ShellWord | ShellText | int


def argv_text(argv: list[str]) -> ShellText:
    """A command line for bash from an argument vector."""
    return ShellText.join(" ", [ShellWord(a) for a in argv])


def export(name: str, value: object) -> ShellText:
    """``export NAME=value`` for bash; the name is checked, the value quoted."""
    if not is_variable_name(name):
        raise ValueError(f"not a name that a shell can export: {name!r}")
    return ShellText("export {}={}", ShellText.trusted(name), ShellWord(value))


HIDDEN = "********"
"""What a secret shows of itself."""


class Secret:
    """A value that never shows itself: not in ``repr``, ``str``, a format or a pickle."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __str__(self) -> str:
        return HIDDEN

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return HIDDEN

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> tuple[type, tuple[str]]:
        raise TypeError("a Secret cannot be pickled")
