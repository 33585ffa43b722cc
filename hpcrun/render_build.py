"""The script that makes an environment, wherever it runs: detached on a login node, or as a job."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from hpcrun.environments.recipe import Recipe
from hpcrun.models.layout import layout
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site
from hpcrun.quoting import Comment, Directive, ShellText, ShellWord, export
from hpcrun.render import Job, Made, fill_template, slurm_directives

PATIENCE = 60
"""Seconds that a builder may show no life before it counts as dead."""

CALLER = "HPCRUN_CONDA_CALLER"
"""The variable of a recipe by which a builder knows that the caller can make the prefix."""

_VERSION = 1


@dataclass(frozen=True)
class _File:
    name: ShellWord
    content: ShellText


@dataclass(frozen=True)
class _Build:
    """What the template sees as ``build``."""

    title: Comment
    called: ShellWord
    root: ShellWord
    name: ShellWord
    about: ShellWord
    patience: int
    directives: Sequence[Directive]
    asks: bool
    modules: bool
    files: Sequence[_File]
    exports: Sequence[ShellText]
    text: ShellText
    record: ShellText


def render_builder(made: Made, site: Site, directives: Sequence[Directive] = ()) -> str:
    """The script's text; ``directives`` are those of a job. Raises TemplateError."""
    recipe = made.recipe
    about = {"version": _VERSION, "kind": recipe.kind, "key": recipe.key, "title": recipe.title}
    variables = {**site.environment_variables, **recipe.variables}
    build = _Build(
        title=Comment(recipe.title),
        called=ShellWord(recipe.title),
        root=ShellWord(made.root),
        name=ShellWord(recipe.name),
        about=ShellWord(json.dumps(about).removesuffix("}")),
        patience=PATIENCE,
        directives=directives,
        asks=bool(directives) and asks(recipe),
        modules="hpcrun_load_modules" in str(recipe.build),
        files=[
            _File(ShellWord(name), _base64(data))
            for name, data in sorted({**recipe.files, **recipe.aids}.items())
        ],
        exports=[export(name, value) for name, value in variables.items()],
        text=recipe.build,
        record=recipe.record,
    )
    return fill_template("build.sh.j2", [], build=build)


def asks(recipe: Recipe) -> bool:
    """Whether the caller makes it where the site has nothing to make it with."""
    return CALLER in recipe.variables


def files_of(script: str) -> dict[str, bytes]:
    """What the recipe's files hold, by their names, as they stand in a builder's script."""
    found = re.findall(
        r"^    put (\S+) <<'HPCRUN_END' .*\n([A-Za-z0-9+/=\n]*?)\nHPCRUN_END$", script, re.MULTILINE
    )
    return {shlex.split(name)[0]: base64.b64decode(text) for name, text in found}


def job_directives(made: Made, config: ScriptRunConfig, site: Site) -> list[Directive]:
    """What the job asks for that makes it; ``config`` holds its resources, the site's defaults included."""
    job = Job("environment", "environment", site.name, made.root, config, site)
    named = ("job-name", "chdir", "output")  # said where it is submitted
    return [each for each in slurm_directives(job, layout(config)) if each.name not in named]


def _base64(data: bytes) -> ShellText:
    return ShellText.trusted(base64.encodebytes(data).decode("ascii").rstrip("\n"))
