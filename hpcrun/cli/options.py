"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from hpcrun.units import Duration, Memory

F = TypeVar("F", bound=Callable[..., Any])


def json_option(command: F) -> F:
    """``--json``, as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(command)


def timeout_option(command: F) -> F:
    """``--timeout``, in whole seconds."""
    return click.option(
        "--timeout",
        callback=duration_of,
        metavar="DURATION",
        help="Give up waiting after so long (90s, 10m, 2h; a bare number is minutes); the run goes on.",
    )(command)


def duration_of(ctx: click.Context, param: click.Parameter, value: str | None) -> Duration | None:
    """The callback of an option that takes a time."""
    try:
        return None if value is None else Duration.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def memory_of(ctx: click.Context, param: click.Parameter, value: str | None) -> Memory | None:
    """The callback of an option that takes an amount of memory."""
    try:
        return None if value is None else Memory.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def pairs(values: tuple[str, ...], option: str, *, bare: bool = False) -> dict[str, str | None]:
    """``K=V`` as a dictionary; with ``bare``, also ``K``, whose value is None."""
    found: dict[str, str | None] = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not key.strip() or not text.isprintable() or not (equals or bare):
            raise click.BadParameter(
                f"expected {'KEY or ' if bare else ''}KEY=VALUE, found {text!r}", param_hint=option
            )
        found[key.strip()] = value if equals else None
    return found
