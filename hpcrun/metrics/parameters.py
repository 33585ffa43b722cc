"""The parameters of a run: what its script is told by name, read from its arguments.

    --lr 0.1  --lr=0.1  -b 64  lr=0.1     a name and its value
    --amp                                 a flag: true
    --layers 64 64                        several values: the text of them, "64 64"

Of a name that is given twice, the last counts. Words that belong to no name are none, nor is what stands
behind ``--``. A value that is a number, true or false by its spelling is one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

Value = bool | int | float | str

MAX_NAMES, MAX_NAME, MAX_TEXT = 1000, 255, 1000
"""How many parameters a run has at most, and the characters of a name and of a value. What a script is told
beyond that is none of them; a longer text is cut."""

_LONG = re.compile(r"(--?[A-Za-z_][^\s=]*)(?:=(.*))?", re.DOTALL)
_PAIR = re.compile(r"([+]{0,2}[A-Za-z_][\w./@-]*)=(.*)", re.DOTALL)
_INTERPRETER = re.compile(r"(?:.*/)?(?:python|pypy|bash|sh|dash|zsh|perl|ruby|julia|node|Rscript)[0-9.]*")
_INSTEAD = ("-c", "-m", "-e")  # and what follows is the program
_TAKES_ONE = ("-W", "-X", "-o")
_INT = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][+-]?[0-9]+)?")
_WORDS: dict[str, bool] = {"true": True, "True": True, "false": False, "False": False}


def typed(text: str) -> Value:
    """The value that a word spells: ``10`` and ``1e-4`` are numbers, ``007`` and ``v1`` are text.

    >>> typed("1e-4"), typed("10"), typed("007"), typed("true")
    (0.0001, 10, '007', True)
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(value := float(text)):
        return value
    return text


def of_command(words: Sequence[Value]) -> Sequence[Value]:
    """The arguments in a command: what an interpreter is told before its script, or in its place, is none.

    >>> of_command(["python", "-u", "train.py", "--lr", "0.1"]), of_command(["bash", "-c", "make", "--a"])
    (['--lr', '0.1'], ['--a'])
    """
    if not words or not _INTERPRETER.fullmatch(str(words[0])):
        return words
    at = 1
    while at < len(words) and str(words[at]).startswith("-"):
        if words[at] in _INSTEAD:
            return words[at + 2 :]
        at += 2 if words[at] in _TAKES_ONE else 1
    return words[at + 1 :]


def from_arguments(words: Iterable[Value]) -> dict[str, Value]:
    """The parameters that a script's arguments name, in their order.

    >>> from_arguments(["data", "--lr", "0.1", "--layers", 64, 64, "--amp"])
    {'lr': 0.1, 'layers': '64 64', 'amp': True}
    """
    found: dict[str, list[Value]] = {}
    name: str | None = None
    for word in words:
        if word == "--":
            break
        if isinstance(word, str) and (option := _LONG.fullmatch(word)):
            name = option[1].lstrip("-")
            found.pop(name, None)
            found[name] = [] if option[2] is None else [typed(option[2])]
            if option[2] is not None:
                name = None
        elif isinstance(word, str) and (name is None or found[name]) and (pair := _PAIR.fullmatch(word)):
            name = None
            found.pop(pair[1].lstrip("+"), None)
            found[pair[1].lstrip("+")] = [typed(pair[2])]
        elif name is not None:
            found[name].append(typed(word) if isinstance(word, str) else word)
    return checked({key: _joined(values) for key, values in found.items()})


def checked(values: dict[str, Value]) -> dict[str, Value]:
    """What of these can be kept and asked for: within the limits, and no number that JSON has no word for."""
    kept: dict[str, Value] = {}
    for name, value in values.items():
        if len(kept) == MAX_NAMES:
            break
        if 0 < len(name) <= MAX_NAME:
            if isinstance(value, float) and not math.isfinite(value):
                value = str(value)
            kept[name] = value[:MAX_TEXT] if isinstance(value, str) else value
    return kept


def _joined(values: list[Value]) -> Value:
    if not values:
        return True
    return values[0] if len(values) == 1 else " ".join(str(value) for value in values)
