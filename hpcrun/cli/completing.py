"""Arguments that the shell can complete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def run_argument(command: F) -> F:
    """``RUN``, as ``run``."""
    return click.argument("run")(command)
