"""What goes to a remote shell, and how its answer is told from the noise around it.

A login shell of any make gets one fixed line, BOOT, which reads the length of a script, the script, and
leaves the rest of standard input to it. So nothing that a user named is ever in a command line there, and
quoting for csh or fish is nobody's concern. A script that was cut off on its way is a syntax error as a
whole: it stands in braces, and nothing of it is carried out.

The answer comes between two marks that nobody can guess. What a ``.bashrc`` says stands before the first;
an answer without the second was cut off, and what became of the command is not known.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence

from hpcrun.errors import CommandError
from hpcrun.quoting import PosixWord, ShellText, is_variable_name

READ = 'IFS= read -r n && eval "$(dd bs=1 count="$n" 2>/dev/null)"'
BOOT = f"exec /bin/sh -c '{READ}'"
"""The remote command line for every script; the same in sh, csh and fish."""
BOOT_LOGIN = f"exec /bin/bash -lc 'exec /bin/sh -c \"$0\"' '{READ}'"
"""The same, with the variables that the user's profile sets, but not its functions, traps and options: for
sites where only that finds Slurm's commands."""


def new_mark() -> str:
    """A word that no output holds by chance or on purpose."""
    return f"hpcrun-{os.urandom(12).hex()}"


def request(source: str, words: Sequence[str], mark: str) -> bytes:
    """What is written to BOOT's standard input, before what the script itself reads."""
    begin = ShellText(
        "{{\nprintf '\\n%s\\n' {0}\nprintf '\\n%s\\n' {0} >&2\n(\nset -- {1}\n",
        PosixWord(mark),
        _words(words),
    )
    end = ShellText("\n)\nprintf '\\n%s %s\\n' {} \"$?\"\nexit 0\n}}\n", PosixWord(f"{mark}-end"))
    script = os.fsencode(f"{begin}{source}{end}")
    return b"%d\n%s" % (len(script), script)


def _words(words: Sequence[str]) -> ShellText:
    return ShellText.join(" ", [PosixWord(word) for word in words])


_NO_FOLDER = "hpcrun: there is no such folder"
_NO_PROGRAM = "hpcrun: there is no such program"


def command(argv: Sequence[str], cwd: str | None, env: Mapping[str, str] | None, timeout: float) -> str:
    """The script that runs one program, and ends it soon after its caller has lost patience."""
    lines = []
    for name, value in (env or {}).items():
        if not is_variable_name(name):
            raise ValueError(f"not a name that a shell can export: {name!r}")
        lines.append(ShellText("export {}={}", ShellText.trusted(name), PosixWord(value)))
    if cwd is not None:
        refuse = ShellText("{{ echo {} >&2; exit 126; }}", PosixWord(_NO_FOLDER))
        lines.append(ShellText("cd -- {} 2>/dev/null || {}", PosixWord(cwd), refuse))
    refuse = ShellText("{{ echo {} >&2; exit 127; }}", PosixWord(_NO_PROGRAM))
    lines.append(ShellText("command -v {} >/dev/null 2>&1 || {}", PosixWord(argv[0]), refuse))
    # Tried, since older ones take other options.
    limit = ShellText("timeout -k 2 {}", math.ceil(timeout) + 1)
    lines.append(ShellText("if timeout -k 2 9 true 2>/dev/null; then exec {} {}; fi", limit, _words(argv)))
    lines.append(ShellText("exec {}", _words(argv)))
    return "\n".join(map(str, lines))


def check_started(rc: int | None, stderr: str, argv: Sequence[str], cwd: str | None, host: str) -> None:
    """Raise CommandError where :func:`command`'s script says that there was nothing to run, or nowhere."""
    said = stderr.strip()
    if rc == 126 and said == _NO_FOLDER:
        raise CommandError(f"there is no folder {cwd} on {host}")
    if rc == 127 and said == _NO_PROGRAM:
        raise CommandError(
            f"there is no program {argv[0]!r} on {host}", hint="Is it installed there, and on PATH?"
        )


_KEPT = 1 << 12
"""Of what came before an answer, so many bytes are kept, to be shown where no answer comes."""


class Frame:
    """Finds the answer in what comes back, however it is cut into pieces. ``rc`` is None until the end;
    ``noise`` is the last of what came before the beginning, or instead of it."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.begun = False
        self.noise = b""
        self.rc: int | None = None
        self._begin = f"\n{mark}\n".encode()
        self._end = re.compile(rb"\n%s-end (\d+)\n" % mark.encode())
        self._longest = len(mark) + len("\n-end 255\n")
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """The part of the answer that is certain by now."""
        if self.rc is not None:
            return b""
        data, self._rest = self._rest + data, b""
        if not self.begun:
            before, found, data = data.partition(self._begin)
            if not found:
                # Megabytes may come: what is looked through again is no longer than it must be.
                self._rest = before[-len(self._begin) :]
                self.noise = (self.noise + before[: -len(self._begin)])[-_KEPT:]
                return b""
            self.begun, self.noise = True, (self.noise + before)[-_KEPT:]
        match = self._end.search(data)
        if match is not None:
            self.rc = int(match[1])
            return data[: match.start()]
        # The end may have come in part: from its first line break on nothing is certain.
        at = data.find(b"\n", max(0, len(data) - self._longest))
        if at >= 0:
            self._rest = data[at:]
            return data[:at]
        return data

    def finish(self) -> bytes:
        """What was kept back, once nothing more comes."""
        kept, self._rest = self._rest, b""
        if self.begun:
            return kept
        self.noise = (self.noise + kept)[-_KEPT:]
        return b""


def strip_noise(stderr: bytes, mark: str) -> bytes:
    """Standard error without what came before the script began."""
    before, found, after = stderr.partition(f"\n{mark}\n".encode())
    return after if found else before
