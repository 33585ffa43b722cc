"""Trying a site out with a small job, which leaves nothing behind."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hpcrun.errors import CommandError
from hpcrun.probe.answers import script
from hpcrun.probe.findings import Finding
from hpcrun.probe.job import PREFIX, Stand, Wanted, job_script, judge, read_stand

if TYPE_CHECKING:
    from hpcrun.models.site import Site
    from hpcrun.shells.base import PosixShell

_SUBMIT_TIMEOUT = 90.0
_LOOK = 10
"""Seconds that one look waits there for the job's end."""
_LOOK_TIMEOUT = 90.0
_UNFIT = 40
"""What job_submit.sh ends with where the folder cannot be made."""


def try_site(
    site: Site,
    shell: PosixShell,
    wanted: Wanted,
    *,
    folder: str,
    patience: float,
    tell: Callable[[str], None] = lambda words: None,
) -> list[Finding]:
    """Submit the job, wait for it, and say what it found. ``folder`` is where, if the site names no root.

    However this ends, by Ctrl-C too, the job ends, and its folder goes. ``tell`` hears how it stands.
    """
    name = f"{PREFIX}{os.urandom(6).hex()}"
    base = site.root or folder
    try:
        job, there, refused = _submit(site, shell, wanted, base, name)
        if refused is not None:
            return [refused]
        tell(f"job {job} is submitted, as {name}")
        stand = _await(shell, job, there, patience, tell)
        if not stand.over:
            return [_still_waiting(job, stand, patience)]
        return judge(site, wanted, stand)
    finally:
        _clean(shell, base, name)


def _clean(shell: PosixShell, base: str, name: str) -> None:
    """Take away the job and its folder, wherever it was interrupted. Raises CommandError."""
    result = shell.script(script("job_clean"), [base, name], timeout=_SUBMIT_TIMEOUT)
    if not result.ok:
        hint = f"Do it there: scancel --name={name}; rm -r {base}/{name}"
        raise CommandError(result.describe("taking the job away"), hint=hint)


def _submit(
    site: Site, shell: PosixShell, wanted: Wanted, base: str, name: str
) -> tuple[str, str, Finding | None]:
    words = [base, name, os.urandom(12).hex()]
    text = job_script(site, wanted, name)
    result = shell.script(script("job_submit"), words, timeout=_SUBMIT_TIMEOUT, stdin=text)
    said = dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)
    job, there = said.get("job", ""), said.get("folder", "")
    why = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    if result.rc == _UNFIT:
        message = f"no folder could be made for the job: {why[-1] if why else base}"
        return "", "", Finding("problem", "Root", message, ("root",), "Can root be written?")
    if result.ok and re.fullmatch(r"\d{1,12}", job):
        return job, there, None
    if result.rc is None:
        raise CommandError(result.describe("submitting the job"))
    message = f"Slurm refused the job: {why[-1] if why else f'sbatch ended with exit code {result.rc}'}"
    return (
        "",
        "",
        Finding("problem", "Job", message, next="Try another --partition, --account, or fewer --nodes."),
    )


def _await(shell: PosixShell, job: str, there: str, patience: float, tell: Callable[[str], None]) -> Stand:
    end, told = time.monotonic() + patience, ""
    while True:
        left = end - time.monotonic()
        wait = max(0, min(_LOOK, round(left)))
        result = shell.script(script("job_look"), [job, there, str(wait)], timeout=_LOOK_TIMEOUT)
        stand = read_stand(result.check("looking at the job").stdout)
        if stand.over or left <= _LOOK:
            return stand
        words = f"{stand.state} ({stand.reason})" if stand.reason not in ("", "None") else stand.state
        if words != told:
            tell(words)
        told = words


def _still_waiting(job: str, stand: Stand, patience: float) -> Finding:
    why = f" ({stand.reason})" if stand.reason not in ("", "None") else ""
    message = f"job {job} was {stand.state or 'unknown'}{why} after {patience:.0f} s, and was canceled"
    hint = "Wait longer with --timeout, or take a partition that is less busy."
    return Finding("problem", "Job", message, next=hint)
