"""The function that a run calls, as far as it may be written down: the pickled call is kept apart."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpcrun.models.base import Line, MemoryField
from hpcrun.models.environment import Mutable


class FunctionSection(Mutable):
    """A Python function, called with the arguments that it was given in Python.

    Written by :class:`hpcrun.FunctionRunConfig`, never by hand: ``digest`` names the pickle. Of the arguments
    there are the types alone, since what they hold may be for nobody's eyes.
    """

    name: Annotated[Line, Field(min_length=1)]
    arguments: list[Line] = []
    python: Annotated[Line, Field(pattern=r"^[0-9]+\.[0-9]+$")] | None = None
    digest: Annotated[Line, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    max_result_size: MemoryField | None = None
