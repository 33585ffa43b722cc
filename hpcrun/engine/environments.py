"""Environments that hpcrun makes: begun, looked at and told of, wherever the target is.

In the folder ``environments`` of a site (see :mod:`hpcrun.render_build` for what makes them):

    KIND-KEY-MACHINE          a link to the folder below, there only once that is whole
    KIND-KEY-MACHINE.N/       where it was made, by one builder; N is a word that no other has
    KIND-KEY-MACHINE.lock     a link to the folder of the one builder that is at it

A builder is detached, and knows nothing of those who wait. It touches ``beat`` in its folder; where that does
not happen for a minute, by the clock of whoever looks, it is dead, and another is started.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from hpcrun.errors import CommandError, UnreachableError
from hpcrun.shells.base import PosixShell, Result
from hpcrun.shells.scripts import source

LOOK, LOOK_FAR = 2, 8
"""Seconds that one look at an environment in the making lasts, where somebody waits for it; on this machine,
and on another."""

DEAD = 60.0
"""Seconds that a builder may show no life."""

BEGINNINGS = 3
"""How often a build is begun whose builders die without a word."""

_ASK, _ASK_JOB = 60.0, 150.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
_TELLING = re.compile(
    r"\s*(\u00d7|ERROR\b|FATAL\b|error\b|fatal\b|[A-Za-z.]*(Error|Exception)\b|Could not\b)"
)
_OWN = re.compile(r"\d{4}-\d\d-\d\dT\S+ hpcrun: ")
_FRAME = " \u00d7│╰─▶╭"
"""What uv draws around its words."""
_MOST = 600


@dataclass(frozen=True)
class Stand:
    """How it is with an environment: ``ready``; ``building`` or ``failed`` in ``folder``; ``none``; ``job``,
    see :func:`begin_job`. ``beat`` changes as long as its builder lives. ``log`` is what has been said since
    the last look. ``wanted``: its builder waits for what :mod:`hpcrun.engine.bringing` brings."""

    word: str
    folder: str = ""
    beat: str = ""
    log: bytes = b""
    wanted: bool = False


def begin(shell: PosixShell, made: dict[str, Any], script: str, dead: str = "") -> Stand:
    """Have an environment made, unless it is there or being made. ``dead`` is a folder whose builder is.

    Raises CommandError.
    """
    text = script.encode("utf-8", "surrogateescape")
    words = [made["root"], made["name"], str(len(text)), dead]
    result = shell.script(source("env_stand", "env_start"), words, timeout=_ASK, stdin=text)
    return _stand(_answer(result, f"making the {made['title']} in {made['root']}"), b"")


def begin_job(shell: PosixShell, made: dict[str, Any], script: str, dead: str = "") -> Stand:
    """The same by a job, the new one's or that of others who wait for it: ``job``, its id as ``folder``.

    A job would be in vain where the site has nothing to make it with and the caller has: then it is begun as
    :func:`begin` does. Raises CommandError.
    """
    text = script.encode("utf-8", "surrogateescape")
    words = [made["root"], made["name"], str(len(text)), "30", "asks" if made.get("asks") else ""]
    result = shell.script(source("clean", "env_job"), words, timeout=_ASK_JOB, stdin=text)
    answer = _answer(result, f"submitting the job that makes the {made['title']}")
    return begin(shell, made, script, dead) if answer.strip() == "caller" else _stand(answer, b"")


def look(shell: PosixShell, made: dict[str, Any], folder: str, offset: int, seconds: int = 0) -> Stand:
    """How it stands, and what the log of ``folder`` has beyond ``offset`` bytes; after ``seconds`` at most,
    and sooner where there is news. Raises CommandError."""
    words = [made["root"], made["name"], folder, str(offset), str(seconds)]
    said = bytearray()
    result = shell.script(source("env_stand", "env_look"), words, timeout=_ASK + seconds, sink=said.extend)
    _answer(result, f"looking after the {made['title']}")
    head, _, log = bytes(said).partition(b"\n")
    return _stand(head.decode("utf-8", "replace"), log)


def _answer(result: Result, doing: str) -> str:
    """Raises UnreachableError where nobody answered: then the same is to be asked once more."""
    if result.timed_out:
        hint = "What was begun goes on. The run is kept, and goes on with the next hpcrun show or ls."
        raise UnreachableError(result.describe(doing), hint=hint)
    return result.check(doing).stdout


def _stand(text: str, log: bytes) -> Stand:
    words = text.split()
    if not words or words[0] not in ("ready", "building", "failed", "none", "job"):
        raise CommandError(f"not an answer on an environment: {text[:200]!r}")
    word, folder, beat, wanted = [*words, "", "", ""][:4]
    return Stand(word, folder, beat, log, wanted == "wanted")


def telling(log: str) -> str:
    """The words of a failed build that tell why: the last that the resolver has to say for itself."""
    lines = [_ESCAPES.sub("", line).rstrip() for line in log.splitlines()]
    said = [line for line in lines if line.strip() and not _OWN.match(line)]
    own = [line.split(" hpcrun: failed: ", 1)[1] for line in lines if " hpcrun: failed: " in line]
    begins = [index for index, line in enumerate(said) if _TELLING.match(line)]
    if not begins:
        words = said[-1:] or own[-1:]
    else:
        first = begins[-1]
        while first - 1 in begins:  # one complaint of several lines
            first -= 1
        words = said[first:]
    if any("nothing can be written" in line for line in own):
        words += ["(nothing can be written to its disk)"]
    text = " ".join(" ".join(line.strip(_FRAME) for line in words).split())
    return text if len(text) <= _MOST else f"{text[: _MOST - 1]}…"
