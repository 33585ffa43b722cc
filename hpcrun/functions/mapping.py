"""Many calls of one function: what is the n-th one called with, and what do all of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hpcrun.errors import UsageError
from hpcrun.functions.config import FunctionRunConfig


def calls(
    function: Callable[..., Any], iterables: tuple[Iterable[Any], ...], **more: Any
) -> list[FunctionRunConfig]:
    """A configuration for each call, as the built-in ``map`` would make them; all iterables are as long.

    Raises UsageError where they are not, ConfigError as :class:`FunctionRunConfig`.
    """
    columns = [list(each) for each in iterables]
    if not columns:
        raise UsageError("nothing to map over", hint="map(function, [1, 2, 3])")
    lengths = {len(column) for column in columns}
    if len(lengths) > 1:
        raise UsageError(
            f"what is mapped over is not equally long: {', '.join(str(len(c)) for c in columns)}",
            hint="The n-th call gets the n-th value of each.",
        )
    return [FunctionRunConfig(function, values, **more) for values in zip(*columns, strict=True)]
