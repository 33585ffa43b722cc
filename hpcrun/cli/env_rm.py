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
@click.option("--caches", is_flag=True, help="And all packages and layers that are kept for the next ones.")
@click.option("--yes", is_flag=True, help="Delete them; without this they are only shown.")
@target_option
@json_option
def gc(older_than: Duration, caches: bool, yes: bool, target: str, as_json: bool) -> None:
    """Take away environments that nobody has used for long, and what is left of failed ones.

    Any run's beginning counts, of whichever workspace; those that unfinished runs of this one use stay.
    With --caches also what was downloaded to make them: the next one is made more slowly, once. Without --yes
    they are only shown, with their sizes.
    """
    from hpcrun.engine.kept import caches as kept_caches
    from hpcrun.engine.kept import old, remove, remove_caches

    with looked(target) as look:
        going = old(look.found, look.runs, float(older_than))
        shown = [document(look, each) for each in going]
        beside = kept_caches(look.target, look.root) if caches else {}
        if yes and caches:
            remove_caches(look.target, look.root, look.found, [*beside])
        if yes:
            remove(look.target, look.root, going)
        size = sum(each.size for each in going) + sum(beside.values())
        if as_json:
            kept = [{"name": name, "folder": f"{look.root}/{name}", "bytes": n} for name, n in beside.items()]
            print_json({"environments": shown, "caches": kept, "bytes": size, "deleted": yes})
            return
        for each in going:
            click.echo(
                f"{each.name}  {each.state}  {human_bytes(each.size)}  last used "
                f"{human_seconds(each.idle)} ago  {printable(each.title)}"
            )
        for name, each_size in beside.items():
            click.echo(f"{printable(name)}  cache  {human_bytes(each_size)}")
        what = f"{len(going)} environment{'' if len(going) == 1 else 's'}"
        if beside:
            what += f" and {len(beside)} cache{'' if len(beside) == 1 else 's'}"
        what += f", {human_bytes(size)}"
        click.echo(f"deleted: {what}" if yes else f"nothing was deleted: to delete {what}, add --yes")
