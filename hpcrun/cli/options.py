"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from hpcrun.units import Duration, Memory

F = TypeVar("F", bound=Callable[..., Any])


def json_option(command: F) -> F:
    """``--json``, as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(command)


def children_option(command: F) -> F:
    """``--children``."""
    return click.option(
        "--children", is_flag=True, help="Not a RUN, but its children: the trials of a sweep."
    )(command)


def timeout_option(command: F) -> F:
    """``--timeout``, in whole seconds."""
    return click.option(
        "--timeout",
        callback=duration_of,
        metavar="DURATION",
        help="Give up waiting after so long (90s, 10m, 2h; a bare number is minutes); the run goes on.",
    )(command)


_SCHEDULE: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--schedule",
        metavar="'MIN HOUR DAY MONTH WEEKDAY'",
        help="Not now, but whenever a crontab with these fields would; by hpcrun tick. --name names it.",
    ),
    click.option("--timezone", metavar="NAME", help="Of --schedule; this machine's own, if nothing is said."),
    click.option(
        "--catch-up",
        type=click.Choice(["latest", "all"]),
        default="latest",
        show_default=True,
        help="Which of the times to start that no tick came for.",
    ),
)


def schedule_options(command: F) -> F:
    """``--schedule`` and what belongs to it; :func:`is_scheduled` is to be asked first."""
    for option in reversed(_SCHEDULE):
        command = option(command)
    return command


def is_scheduled(options: Mapping[str, Any]) -> bool:
    """Whether it is not for now. Raises UsageError for an option that goes with ``--schedule`` alone."""
    if options["schedule"] is None and options["timezone"] is not None:
        raise click.UsageError("--timezone needs --schedule", click.get_current_context())
    return options["schedule"] is not None


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
