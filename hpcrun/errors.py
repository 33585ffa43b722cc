"""Errors for people: what was wrong, where, and what to do next.

    HpcrunError                     1   something hpcrun cannot go on with
    ├── UsageError                  2   the command or call itself is wrong
    ├── ConfigError                 3   run.yaml, a site, an override; holds every Problem found
    ├── NotFoundError               4   no such run, workspace, site, file
    ├── SnapshotError               5   the source directory cannot be captured
    ├── SubmissionRejected          6   the scheduler said no; nothing is queued
    ├── SubmissionAmbiguous         7   the scheduler's answer was lost; hpcrun looks before it leaps
    ├── CommandError                8   a program failed, timed out or is missing; carries the Result
    │   └── UnreachableError       11   a site cannot be reached; nothing was done there
    │       └── LoginRequired      12   it waits for somebody to type hpcrun login SITE
    ├── HistoryError                9   the run history is damaged, or a move is not allowed
    ├── TemplateError              10   a template override does not render
    └── RunError                        a run ended, but not as hoped
        ├── RunFailedError         20
        ├── RunCanceledError       21
        └── WaitTimeoutError       22

The number is the exit code of the command line (documented in docs/exit-codes.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

INTERRUPTED = 130
"""Exit code after Ctrl-C, as every shell has it."""

PIPE_CLOSED = 141
"""Exit code when whoever was reading the output has closed it, as every shell has it."""


class HpcrunError(Exception):
    """Base of all errors that hpcrun raises on purpose.

    ``hint`` says what to do next; ``exit_code`` is what the command line ends with.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


class UsageError(HpcrunError):
    exit_code = 2


class Problem(NamedTuple):
    """One thing that is wrong in a configuration.

    ``where`` is ``file:line:column`` (1-based), or the name of the layer it came from
    (``--set``, ``Python``); ``path`` the key's path, as in ``resources.gpus_per_node``.
    """

    message: str
    where: str = ""
    path: str = ""
    hint: str = ""

    def __str__(self) -> str:
        head = ": ".join(part for part in (self.where, self.path, self.message) if part)
        return f"{head}\n    {self.hint}" if self.hint else head


class ConfigError(HpcrunError):
    """All problems of a configuration at once."""

    exit_code = 3

    def __init__(self, problems: Sequence[Problem] | str, *, hint: str | None = None) -> None:
        if isinstance(problems, str):
            problems = [Problem(problems)]
        self.problems = list(problems)
        super().__init__("\n".join(str(p) for p in self.problems), hint=hint)


class NotFoundError(HpcrunError):
    exit_code = 4


class SnapshotError(HpcrunError):
    exit_code = 5


class SubmissionRejected(HpcrunError):
    exit_code = 6


class SubmissionAmbiguous(HpcrunError):
    exit_code = 7


class CommandError(HpcrunError):
    """A program that hpcrun started failed; the message shows the command and its last lines."""

    exit_code = 8


class UnreachableError(CommandError):
    """The site was not reached: certainly nothing was started there."""

    exit_code = 11


class LoginRequired(UnreachableError):
    """The site asks for a password or a one-time code, and nobody is there to type it."""

    exit_code = 12


class HistoryError(HpcrunError):
    exit_code = 9


class TemplateError(HpcrunError):
    exit_code = 10


class RunError(HpcrunError):
    exit_code = 20


class RunFailedError(RunError):
    exit_code = 20


class RunCanceledError(RunError):
    exit_code = 21


class WaitTimeoutError(RunError):
    exit_code = 22
