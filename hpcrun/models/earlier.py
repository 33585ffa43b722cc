"""How a run names those before it, and other steps of its pipeline: what to wait for, whose files to have."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from hpcrun.models.base import Line, Variable

WHEN = ("ok", "any", "notok")
"""How a run is to end so that another begins: completed, in any way, otherwise than well."""

STEP = r"[A-Za-z][A-Za-z0-9_-]{0,62}"
"""The name of a pipeline's step."""

FOLDERS = ("outputs", "logs")
"""The folders of a run whose files another may have."""

_STEPS = "steps."


@dataclass(frozen=True)
class Input:
    """Where an input is: a path on the target, or ``name`` within the folder of a run or a step."""

    path: str = ""
    run: str = ""
    step: str = ""
    name: str = ""


def input_variable(name: str) -> str:
    """The variable by which the script finds an input: ``HPCRUN_INPUT_DATA`` for ``data``."""
    return f"HPCRUN_INPUT_{name.upper()}"


def when_and_whom(text: str) -> tuple[str, str]:
    """``any:RUN`` as ``("any", "RUN")``; where nothing is said, the run is to complete (``ok``)."""
    head, colon, rest = text.partition(":")
    return (head, rest) if colon and head in WHEN else ("ok", text)


def input_of(text: str) -> Input:
    """What ``inputs: {NAME: TEXT}`` means. Raises ValueError."""
    if text.startswith(("/", "./", "../", "~")):
        return Input(path=text)
    owner, _, name = text.partition("/")
    parts = name.split("/")
    if not owner or parts[0] not in FOLDERS or ".." in parts:
        raise ValueError(
            "expected RUN/outputs/FILE, steps.STEP/outputs/FILE (or logs), or a path on the target "
            "that begins with /, ./ or ~"
        )
    name = os.path.normpath(name)
    step = owner.removeprefix(_STEPS)
    return Input(run=owner, name=name) if step == owner else Input(step=step, name=name)


def _whom(text: str) -> str:
    if not when_and_whom(text)[1].strip():
        raise ValueError("names no run: expected RUN, any:RUN or notok:RUN")
    return text


def _step(text: str) -> str:
    if not re.fullmatch(STEP, when_and_whom(text)[1]):
        raise ValueError("names no step: expected STEP, any:STEP or notok:STEP")
    return text


def _input(text: str) -> str:
    input_of(text)
    return text


def _id(value: Any) -> Any:
    """In Python a run may stand for its id."""
    return value if isinstance(value, str) else getattr(value, "id", value)


Runs = list[Annotated[Line, AfterValidator(_whom), BeforeValidator(_id)]]
Steps = list[Annotated[Line, AfterValidator(_step)]]
Inputs = dict[Variable, Annotated[Line, Field(min_length=1), AfterValidator(_input)]]
