"""When a run that was ended before its time goes back into the queue by itself."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from hpcrun.models.base import Model

_SIGNAL = re.compile(r"(?:SIG)?([A-Z0-9]+)@([0-9]{1,5})")


def _signal(value: str) -> str:
    match = _SIGNAL.fullmatch(value)
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise ValueError("expected SIGNAL@SECONDS, such as USR2@180 (at most 65535 seconds)")
    if match[1] not in ("USR1", "USR2"):
        raise ValueError("only USR1 and USR2 reach all processes; at the end itself TERM comes anyway")
    return f"{match[1]}@{int(match[2])}"


def _once(value: list[str]) -> list[str]:
    if len(set(value)) < len(value):
        raise ValueError("names a cause twice")
    return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Cause = Literal["preempted", "timeout", "node_fail"]


class Requeue(Model):
    """A run that ends for one of the causes ``on`` is queued again, at most ``max`` times in all.

    ``signal`` is what its processes get so many seconds before a time limit, so that they save what they
    have: ``USR1`` or ``USR2``, ``@``, seconds.
    """

    on: Annotated[list[Cause], Field(min_length=1), BeforeValidator(_listed), AfterValidator(_once)] = [
        *("preempted", "timeout", "node_fail")
    ]
    max: Annotated[int, Field(ge=1, le=1000)] = 3
    signal: Annotated[str, AfterValidator(_signal)] = "USR2@180"

    # Values are taken as people write them; type checkers should not ask for ours.
    def __init__(self, **values: object) -> None:
        super().__init__(**values)

    @property
    def signal_name(self) -> str:
        """Such as ``USR2``."""
        return self.signal.partition("@")[0]

    @property
    def seconds(self) -> int:
        """How long before a time limit the signal comes."""
        return int(self.signal.partition("@")[2])
