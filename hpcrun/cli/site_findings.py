"""How what was found at a site is shown."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING

import click

from hpcrun.cli.text import drawn, printable, styled

if TYPE_CHECKING:
    from hpcrun.probe.findings import Finding

COLOURS = {"problem": "red", "warning": "yellow", "note": "cyan", "ok": "green"}
_INDENT = " " * 9


def tell(finding: Finding) -> None:
    """A line or two, folded to the terminal where there is one."""
    lead = styled(f"{finding.level:<7}", COLOURS[finding.level])
    place = f"{finding.where}: " if finding.where else ""
    for number, line in enumerate(_folded(printable(f"{finding.code}: {place}{finding.message}"))):
        click.echo(f"{lead}  {line}" if number == 0 else f"{_INDENT}{line}")
    if finding.next:
        for line in _folded(printable(f"next: {finding.next}")):
            click.echo(f"{_INDENT}{line}")


def _folded(text: str) -> list[str]:
    if not drawn():
        return [text]
    room = max(20, shutil.get_terminal_size().columns - len(_INDENT))
    return textwrap.wrap(text, room, break_on_hyphens=False) or [""]


def counted(findings: tuple[Finding, ...]) -> str:
    """``no problems, 1 warning``"""
    counts = [(sum(each.level == level for each in findings), level) for level in ("problem", "warning")]
    return ", ".join(f"{number or 'no'} {word}{'' if number == 1 else 's'}" for number, word in counts)
