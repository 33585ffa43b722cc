"""``hpcrun site add NAME [HOST]``."""

from __future__ import annotations

import os
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcrun import __version__
from hpcrun.cli.options import json_option
from hpcrun.cli.session import workspace_folder
from hpcrun.cli.site_findings import tell
from hpcrun.cli.text import print_json, printable
from hpcrun.errors import LoginRequired, UnreachableError, UsageError

if TYPE_CHECKING:
    from hpcrun.engine.probe import Asked
    from hpcrun.models.site import Connection, Site
    from hpcrun.probe.facts import Facts
    from hpcrun.probe.findings import Finding

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)


@click.command("add", short_help="Ask a cluster what it is, and write its file.")
@click.argument("name")
@click.argument("host", required=False)
@click.option("--user", "-l", metavar="USER", help="Who you are there, if ssh does not know.")
@click.option(
    "--port", type=click.IntRange(1, 65535), metavar="PORT", help="sshd's port, if ssh does not know."
)
@click.option("--jump", "-J", metavar="HOST", help="A host to go by way of.")
@click.option(
    "--ssh-config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="An ssh_config instead of yours.",
)
@click.option(
    "--two-factor", is_flag=True, help="It asks for a code: only 'hpcrun login' is to try to get in."
)
@click.option(
    "--workspace", "in_workspace", is_flag=True, help="For this workspace alone, beside its .hpcrun."
)
@click.option("--force", is_flag=True, help="Write a file that is there anew.")
@click.option("--dry-run", is_flag=True, help="Print the file, and write nothing.")
@json_option
def add(
    name: str, host: str | None, in_workspace: bool, force: bool, dry_run: bool, as_json: bool, **options: Any
) -> None:
    """Connect to HOST, ask it what cluster it is, and write the file of the site NAME.

    HOST is what ssh takes: a name, an address, USER@HOST, or a Host of your ssh_config. Without one the
    cluster is the one that this machine is a login node of, or, for a site that is there, that site's own.
    The file is to be read: it marks what was guessed, and what only you can know.
    """
    from hpcrun.engine.doctor import file_of, write_site
    from hpcrun.probe.describe import describe

    folder = _folder(name, in_workspace)
    path = file_of(name, folder)
    there = _existing(path, host, force=force, dry_run=dry_run)
    connection = _connection(name, host, there, options)
    today = datetime.now(timezone.utc).date().isoformat()
    asked = _asked(name, path, connection, there, today, dry_run=dry_run)
    text = describe(name, connection, asked.facts, date=today, version=__version__)
    if not dry_run:
        write_site(path, text)
    findings = _findings(name, text, asked)
    if as_json:
        print_json(_document(name, path, text, asked.facts, findings, written=not dry_run))
        return
    if dry_run:
        click.echo(text, nl=False)
        return
    _tell(name, path, text, asked.facts, findings)


def _folder(name: str, in_workspace: bool) -> Path:
    """The folder for the file. Raises UsageError for a name that no site can have."""
    from hpcrun.config.sites import FOLDER, user_folder

    if not _NAME.fullmatch(name):
        hint = "Letters, digits, '_', '.' and '-', a letter or digit first; HOST comes second."
        raise UsageError(f"no site can be called {name!r}", hint=hint)
    if name == "local":
        raise UsageError(
            "local is this machine without a scheduler", hint="Give the cluster a name of its own."
        )
    return (workspace_folder() if in_workspace else user_folder()) / FOLDER


def _existing(path: Path, host: str | None, *, force: bool, dry_run: bool) -> Site | None:
    """The site as it is described by now. Raises UsageError where that must not be written over."""
    from hpcrun.config.sites import read_site
    from hpcrun.engine.doctor import is_unfinished
    from hpcrun.errors import ConfigError

    if not path.exists():
        return None
    try:
        site = read_site(path)
    except ConfigError:
        if force and host is not None:
            return None
        raise
    if not (force or dry_run or is_unfinished(site)):
        hint = f"'hpcrun site check {path.stem}' compares it with the cluster; --force writes it anew."
        raise UsageError(f"the site {path.stem} is described already, in {path}", hint=hint)
    return site


def _connection(name: str, host: str | None, there: Site | None, options: dict[str, Any]) -> Connection:
    """How to get there, by what was typed, else by the file that is there. Raises UsageError."""
    from pydantic import ValidationError

    from hpcrun.models.site import Connection, Site

    ssh_config = options["ssh_config"]
    given = {key: options[key] for key in ("user", "port", "jump") if options[key] is not None}
    if ssh_config is not None:
        given["ssh_config"] = os.path.abspath(ssh_config)  # noqa: PTH100 (links keep their names)
    if options["two_factor"]:
        given["two_factor"] = True
    if host is not None:
        user, at, rest = host.rpartition("@")
        if at and "user" not in given:
            given["user"], host = user, rest
        given |= {"type": "ssh", "host": host}
    elif there is not None and there.connection.type != "here":
        given = {**there.connection.model_dump(exclude_unset=True, exclude={"persist"}), **given}
    elif given:
        raise UsageError("without a HOST there is nothing to connect to", hint="hpcrun site add NAME HOST …")
    try:
        # A connection knows, for messages, what its site is called.
        return Site(name=name, connection=Connection(**given)).connection
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "connection"
        raise UsageError(
            f"{key}: {first['msg']}", hint="HOST is a name or an address, as ssh takes it."
        ) from None


def _asked(
    name: str, path: Path, connection: Connection, there: Site | None, today: str, *, dry_run: bool
) -> Asked:
    """What the site said. Where somebody must log in first, the little that is known is written down."""
    from hpcrun.engine.doctor import is_unfinished, no_slurm, shell_at, write_site
    from hpcrun.engine.probe import ask
    from hpcrun.probe.describe import unfinished

    try:
        with shell_at(connection) as shell:
            asked = ask(shell)
    except UnreachableError as error:
        # What helps against a code, a passphrase, an unknown host key is to log in, by the name of the site.
        if dry_run or f"hpcrun login {name}" not in f"{error.message}\n{error.hint}":
            raise
        more = f"Then: hpcrun site add {name}{'' if there is None or is_unfinished(there) else ' --force'}"
        if there is None or is_unfinished(there):
            typed = connection.two_factor or isinstance(error, LoginRequired)
            known = connection.model_copy(update={"two_factor": typed})
            write_site(path, unfinished(name, known, date=today))
            more = f"How to get there is in {path}. {more}"
        raise type(error)(error.message, hint=f"{error.hint}\n{more}") from None
    if not asked.facts.answered:
        raise no_slurm(connection.host or "this machine", asked.facts.trouble if asked.facts.slurm else "")
    return asked


def _findings(name: str, text: str, asked: Asked) -> list[Finding]:
    """What is wrong at the site itself, told at once: of its file, which is new, nothing is."""
    from hpcrun.engine.doctor import read_text
    from hpcrun.probe.compare import compare

    found = compare(read_text(name, text), asked.facts, asked.skew)
    return [each for each in found if each.level in ("problem", "warning")]


def _marked(text: str, mark: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if f"# {mark}" in line]


def _document(
    name: str, path: Path, text: str, facts: Facts, findings: list[Finding], *, written: bool
) -> dict[str, Any]:
    from hpcrun.probe.describe import BLANK, GUESS

    return {
        "site": name,
        "path": str(path),
        "written": written,
        "text": text,
        "slurm": facts.slurm or None,
        "hostname": facts.hostname or None,
        "guesses": _marked(text, GUESS),
        "blanks": _marked(text, BLANK),
        "findings": [{**each.as_dict(), "where": ""} for each in findings],
    }


def _tell(name: str, path: Path, text: str, facts: Facts, findings: list[Finding]) -> None:
    from dataclasses import replace

    from hpcrun.config.sites import FOLDER
    from hpcrun.probe.describe import BLANK, GUESS
    from hpcrun.shipped import shipped_folder

    click.echo(f"wrote {path}")
    names = [printable(each) for each in facts.partitions]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    on = f" on {facts.hostname}" if facts.hostname else ""
    click.echo(f"  Slurm {facts.slurm}{on}; partitions {', '.join(names[:5])}{more}")
    guesses, blanks = len(_marked(text, GUESS)), len(_marked(text, BLANK))
    click.echo(f"  guesses to look at: {guesses}; lines for you to fill in: {blanks}")
    for each in findings:
        tell(replace(each, where=""))
    if shipped_folder(FOLDER).joinpath(f"{name}.yaml").exists():
        click.echo(
            f"  It stands before the {name} that comes with hpcrun, which may know more: compare the two."
        )
    click.echo(f"next: hpcrun site check {name} --job, then hpcrun submit run.yaml -t {name}")
