"""Errors as people read them on stderr, and as programs read them on stdout."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from hpcrun.errors import INTERRUPTED, ConfigError, HpcrunError, UsageError


class Interrupted(Exception):
    """Ctrl-C; the message says what goes on, the hint how to come back to it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def report(error: BaseException, *, debug: bool = False, as_json: bool = False) -> int:
    """Tell of an error; the exit code to end with. With ``as_json`` also as one document on stdout."""
    if debug and not isinstance(error, (click.UsageError, Interrupted)):
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    told = describe(error)
    lead = "hpcrun: error: "
    if told["type"] == "Interrupted":
        # The terminal has just shown ^C, and stands behind it.
        lead = "\nhpcrun: " if sys.stderr.isatty() else "hpcrun: "
    click.echo(f"{lead}{_indented(told['message'])}", err=True)
    if told["hint"]:
        click.echo(f"  {_indented(told['hint'])}", err=True)
    if as_json:
        click.echo(json.dumps({"error": told}, indent=2))
    return int(told["exit_code"])


def describe(error: BaseException) -> dict[str, Any]:
    """``type``, ``message``, ``hint``, ``exit_code``, and for a configuration its ``problems``."""
    kind, message, hint, code = type(error).__name__, str(error), None, 1
    if isinstance(error, HpcrunError):
        message, hint, code = error.message, error.hint, error.exit_code
        if isinstance(error, ConfigError) and len(error.problems) > 1:
            message = f"{len(error.problems)} problems:\n{message}"
    elif isinstance(error, Interrupted):
        kind, message, hint, code = "Interrupted", error.message, error.hint, INTERRUPTED
    elif isinstance(error, (KeyboardInterrupt, click.Abort)):
        kind, message, code = "Interrupted", "interrupted", INTERRUPTED
    elif isinstance(error, click.ClickException):
        kind, message, hint, code = "UsageError", in_our_words(error), None, UsageError.exit_code
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f"See {error.ctx.command_path} --help"
    elif isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename is not None else ""
        message = f"{error.strerror}{where}"
        hint = "See where it happened: add --debug"
    else:
        message = f"something went wrong that should not ({kind}: {message})" if message else kind
        hint = "See where it happened: add --debug, and please report it with what that prints"
    told: dict[str, Any] = {"type": kind, "message": message, "hint": hint, "exit_code": code}
    if isinstance(error, ConfigError):
        told["problems"] = [
            {"message": p.message, "where": p.where, "path": p.path, "hint": p.hint} for p in error.problems
        ]
    return told


def in_our_words(error: click.ClickException) -> str:
    """click's sentence in the form of all other messages."""
    text = error.format_message().strip()
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _indented(text: str) -> str:
    return text.replace("\n", "\n  ")
