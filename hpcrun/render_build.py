"""The script that makes an environment, wherever it runs: detached on a login node, or as a job."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass

from hpcrun.models.site import Site
from hpcrun.quoting import Comment, Directive, ShellText, ShellWord, export
from hpcrun.render import Made, fill_template

PATIENCE = 60
"""Seconds that a builder may show no life before it counts as dead."""

_VERSION = 1


@dataclass(frozen=True)
class _File:
    name: ShellWord
    content: ShellText


@dataclass(frozen=True)
class _Build:
    """What the template sees as ``build``."""

    title: Comment
    root: ShellWord
    name: ShellWord
    about: ShellWord
    patience: int
    directives: Sequence[Directive]
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
        root=ShellWord(made.root),
        name=ShellWord(recipe.name),
        about=ShellWord(json.dumps(about).removesuffix("}")),
        patience=PATIENCE,
        directives=directives,
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


def _base64(data: bytes) -> ShellText:
    return ShellText.trusted(base64.encodebytes(data).decode("ascii").rstrip("\n"))
