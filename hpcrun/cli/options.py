"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from hpcrun.units import Duration

F = TypeVar("F", bound=Callable[..., Any])


class DurationType(click.ParamType):
    """A length of time such as ``90s`` or ``2h30m``; in whole seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Duration:
        try:
            return Duration.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def json_option(command: F) -> F:
    """``--json``, as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(command)


def timeout_option(command: F) -> F:
    return click.option(
        "--timeout",
        type=DurationType(),
        metavar="DURATION",
        help="Give up waiting after so long (90s, 10m, 2h; a bare number is minutes); the run goes on.",
    )(command)


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
