"""The reference pages of run.yaml, of a sweep and of a site's file, made from the models as the schemas are.

Each key with its type, default and an example. ``python -m hpcrun.config.reference`` writes the pages.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from hpcrun.config import words
from hpcrun.config.descriptions import EXAMPLES
from hpcrun.config.descriptions_sweep import EXAMPLES_SWEEP
from hpcrun.config.schema import Schema, run_schema, section_schema, site_schema
from hpcrun.models.distributed import DistributedConfig
from hpcrun.models.expressions import FORMS
from hpcrun.models.resources import Resources
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site
from hpcrun.models.sweep import SweepSection
from hpcrun.units import Duration, Memory

_HEAD = """\
# {title}

{beside}

| type | |
|---|---|
| time | `90m`, `2h30m`, `1-12:00:00`; a bare number is minutes: [all spellings](../configuration.md#units) |
| memory | `120G`, `500M`; a bare number is MiB |
| count | a whole number from 1 to 1,000,000 |
| name | text of 1 to 255 characters on one line |

What is not required may be left out. This page is made from the models: `python -m hpcrun.config.reference`.
"""
Links = dict[type[BaseModel], str]
"""Where the keys of a model stand that others refer to."""

_TABLE = "| key | type | default | meaning | example |\n|---|---|---|---|---|\n"

# Short forms and spellings that a schema can only give as patterns.
_IN_WORDS = {
    "arguments": "list of words, or text, which is split as a shell would",
    "source_directory": "path",
    "script": "path",
    "root": "absolute path, or one that begins with `~` or a variable",
    "CondaSection.prefix": "absolute path",
    "Conda.root": "absolute path",
    **{f"Expression.{kind}": f"`[{', '.join(names)}]`: numbers" for kind, names in FORMS.items()},
    "Expression.choice": "list of values, and of [options](#spacenamechoice)",
    "Option.value": "text, a number, `true` or `false`",
    "Option.space": "names, and for each [expression](#spacename)",
    "space": "names, and for each [expression](#spacename)",
    "Resources.gpus_per_node": "a number, `TYPE:NUMBER`, or [both by name](#resourcesgpus_per_node)",
    "PyTorchConfiguration.communication_backend": "`nccl` or `gloo`",
    "Resources.sbatch": "options and their values: text, a whole number, `true`, `false`",
    "Scheduler.sbatch": "options and their values: text, a whole number, `true`, `false`",
    "Scheduler.mpirun": "options and their values: text, a whole number, `true`, `false`",
    "Scheduler.srun": "options and their values: text, a whole number, `true`, `false`",
}


def run_page() -> str:
    """docs/reference/run.yaml.md."""
    beside = (
        "What holds for all keys, units, layers and errors: [configuration](../configuration.md). "
        "For editors: [run.schema.json](../schema/run.schema.json)."
    )
    head = _HEAD.format(title="run.yaml: every key", beside=beside)
    return head + "".join(_sections(ScriptRunConfig, run_schema(), "run.yaml", known={}))


def site_page() -> str:
    """docs/reference/site.md."""
    beside = (
        "Where these files lie: [configuration](../configuration.md#sites). "
        "For editors: [site.schema.json](../schema/site.schema.json). With every section: "
        "[example.yaml](../../site_configs/example.yaml)."
    )
    head = _HEAD.format(title="A site's file: every key", beside=beside)
    known: Links = {Resources: "run.yaml.md#resources"}
    return head + "".join(_sections(Site, site_schema(), "NAME.yaml", known=known))


def sweep_page() -> str:
    """docs/reference/sweep.yaml.md."""
    beside = (
        "Below `sweep:`, beside the keys of [run.yaml](run.yaml.md) or `run: FILE`. What they mean: "
        "[sweeps](../sweeps.md). For editors: [sweep.schema.json](../schema/sweep.schema.json)."
    )
    head = _HEAD.format(title="sweep: every key", beside=beside)
    sections = _sections(SweepSection, section_schema(), "sweep", {}, EXAMPLES_SWEEP)
    return head + "".join(sections)


def _sections(
    root: type[BaseModel],
    schema: Schema,
    title: str,
    known: Links,
    examples: Mapping[str, str] = EXAMPLES,
) -> Iterator[str]:
    """The root's own keys, then each model below it, where it is first met."""
    links = dict(known)
    todo: list[tuple[str, type[BaseModel], Schema]] = [(title, root, schema)]
    while todo:
        path, model, definition = todo.pop(0)
        below: list[tuple[str, type[BaseModel], Schema]] = []
        for name, field in model.model_fields.items():
            for other in _models(field.annotation):
                if other in links:
                    continue
                place = name if model is root else f"{path}.{name}"
                if len(_models(field.annotation)) > 1:
                    place += f": {other.model_fields['type'].default}"
                if name in ("partitions", "space"):
                    place += ".NAME"
                links[other] = "#" + anchor(place)
                below.append((place, other, schema["$defs"][other.__name__]))
        yield f"\n## {path}\n\n{_TABLE}"
        yield from _rows("" if model is root else model.__name__, model, definition, links, examples)
        todo = below + todo


def _rows(
    kind: str, model: type[BaseModel], schema: Schema, links: Links, examples: Mapping[str, str]
) -> Iterator[str]:
    required = schema.get("required", [])
    for name, field in model.model_fields.items():
        full, this = f"{kind}.{name}" if kind else name, schema["properties"][name]
        below = [f"[{_short(other)}]({links[other]})" for other in _models(field.annotation)]
        if full in _IN_WORDS:
            said = _IN_WORDS[full]
        elif name == "partitions":
            said = f"names, and for each {below[0]}"
        elif below:
            said = " or ".join(below)
        else:
            said = _type(this, _unit(field.annotation))
        default = "required" if name in required else _default(this)
        cells = [f"`{name}`", said, default, this["description"], f"`{examples[full]}`"]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models within a type, in the order of its branches."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _short(model: type[BaseModel]) -> str:
    """What a link to a model's section is called."""
    if model in _models(DistributedConfig):
        return f"type: {model.model_fields['type'].default}"
    if model.__name__.endswith("Policy"):
        return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", model.__name__.removesuffix("Policy")).lower()
    return model.__name__.removesuffix("Section").lower()


def anchor(heading: str) -> str:
    """The anchor that a heading gets where Markdown is shown."""
    kept = (c for c in heading.lower() if c.isalnum() or c in " -_")
    return "".join(kept).replace(" ", "-")


def _unit(annotation: Any) -> str:
    parts = [annotation, *get_args(annotation), *(p for a in get_args(annotation) for p in get_args(a))]
    return "time" if Duration in parts else "memory" if Memory in parts else ""


def _type(this: Schema, unit: str) -> str:
    """A property's type and what it may be, in words."""
    if unit:
        return unit
    branches = [branch for branch in this.get("anyOf", [this]) if branch.get("type") != "null"]
    return " or ".join(dict.fromkeys(_branch(branch) for branch in branches))


def _branch(this: Schema) -> str:
    kinds = [this["type"]] if isinstance(this.get("type"), str) else this.get("type", [])
    if "const" in this:
        return f"`{this['const']}`"
    if "enum" in this:
        return ", ".join(f"`{value}`" for value in this["enum"])
    if "array" in kinds:
        return f"list of {_branch(this['items'])}s"
    if "object" in kinds:
        return "names and texts"
    if "integer" in kinds:
        least, most = this.get("minimum"), this.get("maximum")
        if (least, most) == (1, 1_000_000):
            return "count"
        limits = f", {least} to {most}" if most is not None else f", at least {least}"
        return "whole number" + (limits if least is not None else "")
    if "number" in kinds:
        return "number" + (f", at least {this['minimum']}" if "minimum" in this else "")
    if "boolean" in kinds:
        return "`true` or `false`"
    if "pattern" in this:
        return words.PATTERNS[this["pattern"]]
    if this.get("maxLength") == 255:
        return "name"
    return "text" + (f", up to {this['maxLength']} characters" if "maxLength" in this else "")


def _default(this: Schema) -> str:
    value = this.get("default")
    if value in (None, [], {}):
        return ""
    return f"`{json.dumps(value) if not isinstance(value, str) or not value else value}`"


def main(folder: str = "docs/reference") -> None:
    """Write the pages into ``folder``."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    (place / "run.yaml.md").write_text(run_page(), encoding="utf-8")
    (place / "sweep.yaml.md").write_text(sweep_page(), encoding="utf-8")
    (place / "site.md").write_text(site_page(), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
