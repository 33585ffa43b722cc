"""What can be found wrong with a run on another machine: whether one gets there, what is missing there."""

from __future__ import annotations

import os
import pwd

from hpcrun.check.findings import Findings
from hpcrun.config.tree import Path as Key
from hpcrun.engine.check_slurm import slurm_is_here
from hpcrun.errors import CommandError
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site
from hpcrun.shells.base import RemoteShell
from hpcrun.targets import Target

_ASK = 30.0
_Wanted = tuple[str, str, str, Key]

# "found" or "missing" for each of pairs of words: p and a path, c and a command. "~" is the home there.
_LOOK = """
while [ $# -gt 1 ]; do
    case $2 in "~/"*) set -- "$1" "$HOME/${2#??}" "$@"; shift 2 ;; esac
    if [ "$1" = c ]; then command -v "$2" >/dev/null 2>&1; else [ -e "$2" ]; fi && echo found || echo missing
    shift 2
done
"""


def who_is_there(found: Findings, target: Target) -> str | None:
    """Who one is where the site's commands are; None, and a note, where they are not to be had."""
    if target.remote is None:
        if target.site.scheduler.type == "local" or slurm_is_here():
            return pwd.getpwuid(os.getuid()).pw_name
        message = (
            f"Slurm's commands are not on this machine: only what {target.site.name}'s file says was checked"
        )
        found.add("note", "Unchecked", message, next="Check and submit on a login node of the cluster.")
        return None
    try:
        return target.remote.run(["id", "-un"], timeout=_ASK).check().stdout.strip()
    except CommandError as error:
        message = f"only what {target.site.name}'s file says was checked: {error.message}"
        found.add("note", "Unchecked", message, next=error.hint or "")
        return None


def check_there(found: Findings, config: ScriptRunConfig, site: Site, shell: RemoteShell) -> None:
    """Whether the environment is there, by one question."""
    wanted = _wanted(config, site)
    if wanted:
        words = [word for kind, path, _, _ in wanted for word in (kind, path)]
        try:
            answers = shell.script(_LOOK, words, timeout=_ASK).check("looking for the environment").stdout
        except CommandError as error:
            found.add("note", "Unchecked", f"the environment was not looked for: {error.message}")
            return
        for (_, path, what, key), answer in zip(wanted, answers.split(), strict=False):
            if answer == "missing":
                message = f"there is no {what} {path} on {shell.host}"
                found.add("problem", "Environment", message, key)
    modules = [*site.modules, *config.environment.modules]
    if modules:
        message = f"modules are not looked for: {', '.join(modules)}"
        found.add("note", "Unchecked", message, next=f"there: module avail {modules[0]}")


def _wanted(config: ScriptRunConfig, site: Site) -> list[_Wanted]:
    """What must be there: p(ath) or c(ommand), its name, what it is, and the key that says so."""
    environment = config.environment
    if environment.apptainer is not None:
        wanted: list[_Wanted] = []
        if not site.modules and not environment.modules:  # which may bring it
            wanted.append(("c", site.apptainer.executable, "program", ("environment", "apptainer")))
        image = environment.apptainer.image or ""
        if image.startswith("/"):  # else it is made, or comes with the snapshot
            wanted.append(("p", image, "image", ("environment", "apptainer", "image")))
        return wanted
    if environment.conda is not None:
        if environment.conda.prefix is not None:
            prefix = f"{environment.conda.prefix}/conda-meta"
            return [("p", prefix, "conda environment", ("environment", "conda", "prefix"))]
        if environment.conda.made:
            tool = site.conda.executable  # where none is named, one is looked for when it is made
            return [] if tool is None else [("c", tool, "program", ("environment", "conda"))]
        if site.conda.root is not None:
            return [("p", site.conda.root, "conda", ("environment", "conda"))]
        return []
    python = environment.python.interpreter_path
    key = ("environment", "python", "interpreter_path")
    if python is not None and python.startswith("/"):
        return [("p", python, "interpreter", key)]
    return []
