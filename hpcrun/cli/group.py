"""Commands that are loaded when they are typed, and one place where every error ends."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from hpcrun.cli.errors import Interrupted, in_our_words, report
from hpcrun.errors import PIPE_CLOSED, UsageError


@dataclass
class Session:
    """What was said before the command: which workspace, and how much to tell of errors."""

    workspace: Path | None = None
    debug: bool = False


class Command(click.Command):
    """A command that also takes ``--debug``: after an error it is added where the cursor is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(["--debug"], is_flag=True, hidden=True, expose_value=False, callback=_debug)
        )


def _debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Session).debug = True


class CommandWithRest(Command):
    """A command with ``-- ARGS…``: what follows the dashes is in ``ctx.meta[REST]``, None without dashes."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[REST] = None
        if "--" in args:
            at = args.index("--")
            ctx.meta[REST] = args[at + 1 :]
            args = args[:at]
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if isinstance(error, click.NoSuchOption) or "unexpected extra" in error.message:
                hint = f"See {ctx.command_path} --help; arguments of the script go after --"
                raise UsageError(in_our_words(error), hint=hint) from None
            raise

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- ARGS...]"]


REST = "hpcrun.rest"

# What other programs, Slurm's among them, call what hpcrun does.
OTHER_WORDS = {
    "sbatch": "submit", "srun": "run", "exec": "run", "list": "ls", "ps": "ls", "queue": "ls",
    "squeue": "ls", "sacct": "ls", "runs": "ls", "status": "show", "info": "show", "describe": "show",
    "tail": "logs", "log": "logs", "output": "logs", "follow": "logs", "scancel": "cancel",
    "stop": "cancel", "kill": "cancel", "rm": "cancel", "sites": "site", "targets": "site", "sinfo": "site",
    "resubmit": "rerun", "repeat": "rerun", "label": "tag", "cd": "open",
    "crontab": "cron", "schedules": "schedule", "recurring": "schedule",
    "plot": "metrics", "curves": "metrics", "tb": "tensorboard", "mlflow": "export", "csv": "export",
    "ssh": "login", "connect": "login", "signin": "login", "disconnect": "logout",
}  # fmt: skip


class GuessingGroup(click.Group):
    """Says which of its commands was probably meant, where none was."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-"):
            raise unknown_command(args[0], known, ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(GuessingGroup):
    """A group that knows its commands by name, module and one line of help.

    Each module calls what it holds ``command``.
    """

    def __init__(self, *args: Any, lazy: MutableMapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        command = import_module(self._lazy[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._lazy.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run a command and exit with its code; every error ends here, as text for people."""
        given = list(sys.argv[1:] if args is None else args)
        session = extra.setdefault("obj", Session())
        try:
            code = super().main(given, prog_name or "hpcrun", complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
        except SystemExit:
            raise
        except BrokenPipeError:
            _seen_enough()
        except BaseException as error:
            code = report(error, debug=session.debug, as_json=_wants_json(given))
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except (KeyboardInterrupt, EOFError):
            # click would make an Abort of it, and print an empty line.
            raise Interrupted("interrupted") from None
        except BrokenPipeError:
            _seen_enough()


def _seen_enough() -> NoReturn:
    """Whoever read the output has gone: end without a word. Python would complain once more as it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(PIPE_CLOSED)


def unknown_command(name: str, known: list[str], ctx: click.Context) -> click.UsageError:
    """The error for a command that is not there, with the one that was probably meant."""
    import difflib

    close = [word for word in (OTHER_WORDS.get(name),) if word in known]
    close = close or [
        word for word in known if len(name) > 1 and word.startswith(name)
    ]  # not typed to its end
    close = close or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    words = f" Did you mean {close[0]}?" if close else ""
    return click.UsageError(f"no such command: {name}.{words}", ctx)


def _wants_json(args: list[str]) -> bool:
    end = args.index("--") if "--" in args else len(args)
    return "--json" in args[:end]
