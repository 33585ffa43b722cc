"""What ``submit`` and ``run`` share: their options, and the way from a configuration to its end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hpcrun.cli.completing import complete_experiments, complete_runs, complete_targets
from hpcrun.cli.document import run_document
from hpcrun.cli.errors import Interrupted
from hpcrun.cli.options import json_option, pairs, timeout_option
from hpcrun.cli.preparing import Preparing, interrupted_while_preparing
from hpcrun.cli.progress import sending
from hpcrun.cli.session import make_workspace, refresh_active, tell_trouble, workspace_folder
from hpcrun.cli.text import print_json, short_id, state_text
from hpcrun.cli.watch import Follower, exit_code, interruptible, on_signals, summary, wait_for_end
from hpcrun.errors import NotFoundError
from hpcrun.states import RunState

if TYPE_CHECKING:
    from hpcrun.engine.code import Code
    from hpcrun.engine.earlier import Earlier
    from hpcrun.engine.prepare import Plan
    from hpcrun.history.record import RunRecord
    from hpcrun.models.run import ScriptRunConfig
    from hpcrun.workspace import Workspace

F = TypeVar("F", bound=Callable[..., Any])

# Options that are keys of run.yaml, by their parameter's name.
KEYS = {
    "target": "compute_target",
    "experiment": "experiment",
    "name": "display_name",
    "description": "description",
    "nodes": "resources.nodes",
    "gpus_per_node": "resources.gpus_per_node",
    "time": "resources.time",
    "mem": "resources.memory",
    "partition": "resources.partition",
    "account": "resources.account",
    "qos": "resources.qos",
    "after": "after",
}

_CONFIGURATION: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "-t",
        "--target",
        metavar="SITE[:PARTITION]",
        shell_complete=complete_targets,
        help="Where to run; see hpcrun site ls.",
    ),
    click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set any key of run.yaml."),
    click.option(
        "--experiment",
        metavar="NAME",
        shell_complete=complete_experiments,
        help="The experiment that the run belongs to.",
    ),
    click.option("--name", metavar="TEXT", help="A name to display."),
    click.option("--description", metavar="TEXT", help="What the run is for."),
    click.option("--nodes", type=int, metavar="N", help="resources.nodes"),
    click.option("--gpus-per-node", metavar="[TYPE:]N", help="resources.gpus_per_node"),
    click.option("--time", metavar="DURATION", help="resources.time: 90m, 2h30m, 1-12:00:00"),
    click.option("--mem", metavar="MEMORY", help="resources.memory, a node: 120G"),
    click.option("-p", "--partition", metavar="NAME", help="resources.partition"),
    click.option("-A", "--account", metavar="NAME", help="resources.account"),
    click.option("--qos", metavar="NAME", help="resources.qos"),
    click.option(
        "--after",
        multiple=True,
        metavar="[any:|notok:]RUN",
        shell_complete=complete_runs,
        help="Begin after this run, if it completes (any: however it ends; notok: if it does not complete).",
    ),
)

_SUBMISSION: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--parent", metavar="RUN", shell_complete=complete_runs, help="Make it a child of this run."
    ),
    click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag; may be repeated."),
    click.option("--key", metavar="TEXT", help="Submit once: the run that has this key already is taken."),
    click.option("--run-id", metavar="ID", help="The run's id, instead of a new one."),
    click.option("--wait", is_flag=True, help="Wait for the end, in silence."),
    click.option("-f", "--follow", is_flag=True, help="Wait for the end, and print what the run prints."),
    timeout_option,
    click.option("--dry-run", is_flag=True, help="Print the script that would be submitted; write nothing."),
    json_option,
)


def configuration_options(command: F) -> F:
    """The options that :func:`flags_of` and :func:`read_config` read: what is to be run, and where."""
    for option in reversed(_CONFIGURATION):
        command = option(command)
    return command


def submission_options(command: F) -> F:
    """The same, and all options that :meth:`Wanted.of` reads."""
    for option in reversed(_SUBMISSION):
        command = option(command)
    return configuration_options(command)


@dataclass(frozen=True)
class Wanted:
    """What the options say beyond the configuration."""

    tags: dict[str, str]
    key: str | None
    run_id: str | None
    experiment: str | None
    parent: str | None
    wait: bool
    follow: bool
    timeout: float | None
    dry_run: bool
    as_json: bool

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Wanted:
        """Raises UsageError for options that do not go together."""
        tags = {key: str(value) for key, value in pairs(options["tags"], "--tag").items()}
        names = [name for name in cls.__dataclass_fields__ if name != "tags"]
        wanted = cls(tags=tags, **{name: options[name] for name in names})
        waits = wanted.wait or wanted.follow
        if wanted.timeout is not None and not waits:
            raise click.UsageError("--timeout needs --wait or --follow", click.get_current_context())
        if wanted.dry_run and waits:
            raise click.UsageError("--dry-run submits nothing to wait for", click.get_current_context())
        return wanted


def flags_of(options: Mapping[str, Any]) -> dict[str, object]:
    """The options that are keys of run.yaml, by key; None where they were not given."""
    return {key: None if options[name] == () else options[name] for name, key in KEYS.items()}


def read_config(
    config: Path, options: Mapping[str, Any], arguments: list[str] | None, workspace: Path | None
) -> ScriptRunConfig:
    """The configuration in the file ``config``, with what the options say on top.

    A target is looked up where a ``workspace`` is given. Raises ConfigError, NotFoundError.
    """
    must_exist(config)
    from hpcrun.config.load import load_run_config

    flags = {**flags_of(options), "arguments": arguments}
    return load_run_config(config, overrides=options["overrides"], flags=flags, workspace=workspace)


def must_exist(config: Path) -> None:
    """Raises NotFoundError with the file that was probably meant."""
    if config.exists():
        return
    import difflib

    names = list[str]()
    with suppress(OSError):
        names = [path.name for path in config.parent.iterdir() if path.suffix in (".yaml", ".yml")]
    close = difflib.get_close_matches(config.name, names, n=1)
    hint = f"did you mean {config.parent / close[0]}?" if close else None
    raise NotFoundError(f"no such file: {config}", hint=hint)


def carry_out(
    config: ScriptRunConfig,
    wanted: Wanted,
    *,
    code: Code | None = None,
    properties: Mapping[str, str] | None = None,
) -> None:
    """Submit a configuration (or show its script), and see it through as far as was asked.

    ``code`` is an earlier run's, which is run instead of the source directory as it is now.
    """
    parent = _parent(wanted)
    if parent is not None:
        config = config.model_copy(update={"experiment": parent.experiment})
    plan = _plan(config, wanted.run_id, code, ask=not wanted.dry_run)
    warn(plan)
    if wanted.dry_run:
        _show_script(plan, wanted.as_json)
        return
    workspace = make_workspace()
    record, new = _send(workspace, plan, wanted, parent.id if parent else None, dict(properties or {}))
    if not new:
        tell_trouble(refresh_active(workspace, [record.id]))
        record = workspace.history.get(record.id)
        _announce(workspace, record, new, wanted)
    ends_with = 0
    if wanted.wait or wanted.follow:
        record = _see_through(workspace, record, wanted)
        ends_with = exit_code(record.state)
    if wanted.as_json:
        print_json({**run_document(workspace, record), "new": new})
    click.get_current_context().exit(ends_with)


def _plan(config: ScriptRunConfig, run_id: str | None, code: Code | None, *, ask: bool) -> Plan:
    from hpcrun.engine.prepare import prepare
    from hpcrun.history.paths import WorkspacePaths
    from hpcrun.targets import Targets
    from hpcrun.workspace import FOLDER

    folder = workspace_folder()
    return prepare(
        config,
        WorkspacePaths(folder / FOLDER),
        Targets(folder),
        run_id=run_id,
        earlier=_earlier(folder / FOLDER, config),
        code=code,
        ask=ask,
    )


def warn(plan: Plan) -> None:
    """Of what the site's file says would not go. It is no reason to refuse: such files grow old."""
    site = plan.target.site
    if not site.partitions:
        return
    from hpcrun.check.limits import over_description

    for _, excess, _ in over_description(plan.config, site):
        click.echo(f"hpcrun: warning: {excess.message}, as {site.name}'s file says", err=True)
        click.echo("  What the site itself says: hpcrun check, with the same arguments", err=True)


def warn_of_mail(notify: Mapping[str, Any]) -> None:
    """Of a letter that nobody will send."""
    from hpcrun.engine.notice_ways import no_mail

    if words := no_mail(notify):
        click.echo(f"hpcrun: warning: {words}", err=True)


def _earlier(folder: Path, config: ScriptRunConfig) -> Earlier:
    """Earlier runs are looked up in a history that is there; nothing is made for it."""
    from hpcrun.engine.earlier import earlier_runs, names_runs
    from hpcrun.history.store import History

    if not names_runs(config):
        return earlier_runs(None, config)
    with History.open(folder) as history:
        return earlier_runs(history, config)


def _show_script(plan: Plan, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "id": plan.run_id,
                "experiment": plan.experiment,
                "target": plan.config.compute_target,
                "run_dir": str(plan.run_dir),
                "script": plan.script,
            }
        )
        return
    # As bytes, and so exactly what would be written to job.sh.
    click.echo(plan.script.encode("utf-8", "surrogateescape"), nl=False)


def _parent(wanted: Wanted) -> RunRecord | None:
    """The run to be the parent, from a history that is there; a child belongs to its experiment."""
    if wanted.parent is None:
        return None
    from hpcrun.history.store import History
    from hpcrun.workspace import FOLDER

    with History.open(workspace_folder() / FOLDER) as history:
        parent = history.get(history.resolve(wanted.parent))
    if wanted.experiment not in (None, parent.experiment):
        raise click.UsageError(
            f"a child of {parent.id} belongs to its experiment, {parent.experiment}: leave --experiment out",
            click.get_current_context(),
        )
    return parent


def _send(
    workspace: Workspace, plan: Plan, wanted: Wanted, parent: str | None, properties: dict[str, str]
) -> tuple[RunRecord, bool]:
    from hpcrun.engine.submit import Extras, submit

    extras = Extras(key=wanted.key, parent=parent, tags=wanted.tags, properties=properties)
    begun = workspace.history.paths.run(plan.run_id).folder
    try:
        with finish_first(begun) as interrupted, sending(workspace.targets):
            watch = Preparing(workspace, interrupted)
            record, new = submit(workspace.history, workspace.targets, plan, extras, watch)
            if new and not interrupted:  # in here: nobody who interrupts is left without the id
                _announce(workspace, record, new, wanted)
    except KeyboardInterrupt:
        if not begun.exists():
            raise Interrupted("interrupted; nothing was submitted") from None
        hint = f"Nothing is submitted twice. Whatever is missing is made up for by: hpcrun show {plan.run_id}"
        raise Interrupted(f"interrupted while {plan.run_id} was being submitted", hint) from None
    if interrupted and record.job_id is None and record.state is RunState.PREPARING:
        raise interrupted_while_preparing(record)
    if interrupted:
        name = short_id(record.id)
        raise Interrupted(
            f"interrupted; run {record.id} is submitted and goes on",
            f"come back: hpcrun logs -f {name}\nend: hpcrun cancel {name}",
        )
    return record, new


@contextmanager
def finish_first(begun: Path) -> Iterator[list[int]]:
    """Let a submission that has begun come to its end before Ctrl-C counts; a second Ctrl-C counts at once.

    So with TERM, and with HUP: the terminal is closed. Until the run's folder is there, nothing was begun,
    and taking a large snapshot may be broken off.
    """
    interrupted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if interrupted or not begun.exists():
            if not _in_destructor(frame):
                raise KeyboardInterrupt
            if interrupted:
                return
        interrupted.append(number)
        with suppress(OSError):  # of a terminal that is gone
            click.echo("hpcrun: finishing the submission; Ctrl-C again to break it off", err=True)

    with on_signals(note, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield interrupted


def _in_destructor(frame: FrameType | None) -> bool:
    """Whether a destructor is at work, where Python would lose an exception, and say so in many words."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _announce(workspace: Workspace, record: RunRecord, new: bool, wanted: Wanted) -> None:
    if not wanted.as_json:
        click.echo(_submitted(workspace, record, new, brief=wanted.wait or wanted.follow), err=wanted.follow)
    for note in (record.snapshot or {}).get("notes", []) if new else []:
        click.echo(f"hpcrun: note: {note}", err=True)


def _submitted(workspace: Workspace, record: RunRecord, new: bool, *, brief: bool) -> str:
    name = short_id(record.id)
    state = state_text(record.state, record.reason)
    words = "submitted" if new else "already submitted as"
    first = f"{words} {record.id} to {record.target}, job {record.job_id or '(none yet)'} ({state})"
    if brief:
        return first
    if record.state.final:
        return f"{words} {summary(workspace, record)}"
    folder = workspace.history.paths.run(record.id).folder
    return (
        f"{first}\n"
        f"  folder  {folder}\n"
        f"  next    hpcrun logs -f {name}    follow it\n"
        f"          hpcrun show {name}       all about it\n"
        f"          hpcrun cancel {name}     end it"
    )


def _see_through(workspace: Workspace, record: RunRecord, wanted: Wanted) -> RunRecord:
    how: dict[str, Any] = {"timeout": wanted.timeout}
    if wanted.follow:
        # stdout belongs to what the run prints, or with --json to the one document.
        out = sys.stderr if wanted.as_json else sys.stdout
        how["on_look"] = Follower(workspace, record.id, out=out)
    with interruptible([record.id], "logs -f" if wanted.follow else "wait"):
        record = wait_for_end(workspace, record.id, **how)
    if not wanted.as_json:
        stream = sys.stderr if wanted.follow else sys.stdout
        click.echo(summary(workspace, record, stream=stream), file=stream)
    return record
