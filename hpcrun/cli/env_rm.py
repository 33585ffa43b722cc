"""``hpcrun env rm`` and ``env gc``: environments are taken away, those in use never."""

from __future__ import annotations

import click

from hpcrun.cli.env_look import document, looked, target_option
from hpcrun.cli.options import duration_of, json_option
from hpcrun.cli.text import print_json, printable
from hpcrun.errors import UsageError
from hpcrun.units import Duration, human_bytes, human_seconds


@click.command("rm", short_help="Take environments away.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@target_option
@json_option
def rm(names: tuple[str, ...], target: str, as_json: bool) -> None:
    """Take environments away. One that a run of this workspace uses which has not ended is refused.

    A run that wants one that is gone has it made anew.
    """
    from hpcrun.engine.kept import in_use, meant, remove

    with looked(target) as look:
        going = [meant(look.found, name) for name in dict.fromkeys(names)]
        for each in going:
            using = in_use(each, look.runs)
            if using or each.state == "building":
                why = f"used by {using[0].id}, which is {using[0].state}" if using else "being made"
                hint = f"first: hpcrun cancel {using[0].id}" if using else "Wait until it is there."
                raise UsageError(f"{each.name} is {why}", hint=hint)
        shown = [document(look, each) for each in going]
        remove(look.target, look.root, going)
        size = sum(each.size for each in going)
        if as_json:
            print_json({"environments": shown, "bytes": size, "deleted": True})
            return
        for each in going:
            click.echo(f"deleted: {each.name}, {human_bytes(each.size)}")


@click.command("gc", short_help="Take away environments that nobody has used for long.")
@click.option(
    "--older-than",
    callback=duration_of,
    default="90d",
    show_default=True,
    metavar="DURATION",
    help="Those that no run has begun with for so long (90d, 12h).",
)
@click.option("--yes", is_flag=True, help="Delete them; without this they are only shown.")
@target_option
@json_option
def gc(older_than: Duration, yes: bool, target: str, as_json: bool) -> None:
    """Take away environments that nobody has used for long, and what is left of failed ones.

    Any run's beginning counts, of whichever workspace; those that unfinished runs of this one use stay.
    Without --yes they are only shown, with their sizes.
    """
    from hpcrun.engine.kept import old, remove

    with looked(target) as look:
        going = old(look.found, look.runs, float(older_than))
        shown = [document(look, each) for each in going]
        if yes:
            remove(look.target, look.root, going)
        size = sum(each.size for each in going)
        if as_json:
            print_json({"environments": shown, "bytes": size, "deleted": yes})
            return
        for each in going:
            click.echo(
                f"{each.name}  {each.state}  {human_bytes(each.size)}  last used "
                f"{human_seconds(each.idle)} ago  {printable(each.title)}"
            )
        what = f"{len(going)} environment{'' if len(going) == 1 else 's'}, {human_bytes(size)}"
        click.echo(f"deleted: {what}" if yes else f"nothing was deleted: to delete {what}, add --yes")
