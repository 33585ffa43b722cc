"""JSON Schema (draft 2020-12) of run.yaml and of a site's file, for editors and other tools.

Made from the models, and adjusted to what the loader takes beyond them: numbers where text is wanted
anyway, short forms, keys with nothing below them. ``python -m hpcrun.config.schema`` writes both files.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hpcrun.config.descriptions import RESOURCES, RUN, SITE
from hpcrun.config.descriptions_sweep import SWEEP
from hpcrun.config.distributed import KINDS, LONG, SHORT
from hpcrun.models.earlier import STEP
from hpcrun.models.environment import ENVIRONMENT_KINDS
from hpcrun.models.expressions import FORMS
from hpcrun.models.policies import PolicySection
from hpcrun.models.resources import RESERVED_SBATCH
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site
from hpcrun.models.sweep import SweepSection

Schema = dict[str, Any]

_NULL: Schema = {"type": "null"}
_WITH_NUMBERS = ("bandit", "truncation_selection")
_VARIABLES = {"environment_variables", "nccl"}
_NAME_OF_VARIABLE: Schema = {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}
_GPUS: Schema = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": 1024},
        {"type": "string", "pattern": "^([A-Za-z0-9][A-Za-z0-9_.-]*:)?[0-9]+$"},
        {"$ref": "#/$defs/Gpus"},
        _NULL,
    ]
}


def run_schema() -> Schema:
    """The schema of run.yaml."""
    schema = _schema(ScriptRunConfig, {**RUN, **RESOURCES}, "run", "hpcrun run configuration")
    del schema["required"]
    nullable_source = {"type": ["string", "null"], "minLength": 1}
    schema["properties"]["source_directory"].update(nullable_source)
    schema["properties"][SHORT] = _short_form(schema["$defs"])
    schema["allOf"] = [_not_both(SHORT, LONG)]
    schema["oneOf"] = [
        {
            "required": ["script"],
            "properties": {"script": {"type": "string"}, "command": _NULL, "function": _NULL},
        },
        {
            "required": ["command"],
            "properties": {
                "command": {"type": ["string", "array"]},
                "script": _NULL,
                "function": _NULL,
                "arguments": {"maxItems": 0, "maxLength": 0},
            },
        },
        {
            "required": ["function"],
            "properties": {
                "function": {"type": "object"},
                "script": _NULL,
                "command": _NULL,
                "arguments": {"maxItems": 0, "maxLength": 0},
            },
        },
    ]
    return schema


def _short_form(definitions: Schema) -> Schema:
    """``distributed``: one kind, and the keys that it has beside its type."""
    kinds = {}
    for definition in definitions.values():
        kind = definition["properties"].get("type", {}).get("const")
        if kind in KINDS:
            keys = {name: value for name, value in definition["properties"].items() if name != "type"}
            kinds[kind] = {"type": ["object", "null"], "additionalProperties": False, "properties": keys}
    return {
        "description": RUN[SHORT],
        "type": ["object", "null"],
        "properties": {kind: kinds[kind] for kind in KINDS},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }


def pipeline_schema() -> Schema:
    """The schema of a pipeline's file: what its steps have in common, and the steps."""
    schema = run_schema()
    del schema["oneOf"]
    properties, definitions = schema["properties"], schema.pop("$defs")
    step = {
        "description": "One step: the keys of run.yaml, on top of those that all steps have in common.",
        "type": ["object", "null"],
        "properties": {name: value for name, value in properties.items() if name != "experiment"},
        "additionalProperties": False,
    }
    steps = {
        "description": "The steps by their names, each of which is a run.",
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": f"^{STEP}$"},
        "additionalProperties": {"$ref": "#/$defs/Step"},
    }
    return {
        **schema,
        "$id": "urn:hpcrun:schema:pipeline",
        "title": "hpcrun pipeline",
        "description": "Runs that come after each other. Keys beside `steps` are defaults for each of them; "
        "but experiment, display_name and description are the pipeline's own.",
        "properties": {**properties, "steps": steps},
        "required": ["steps"],
        "$defs": {**definitions, "Step": step},
    }


def sweep_schema() -> Schema:
    """The schema of a sweep's file: a run.yaml with a section ``sweep:``."""
    schema, section = run_schema(), section_schema()
    definitions = {**schema.pop("$defs"), **section.pop("$defs")}
    properties = {
        **schema["properties"],
        "run": {
            "description": "A run.yaml, relative to this file's folder; other keys here lie above its own.",
            "type": "string",
            "minLength": 1,
        },
        "sweep": {key: value for key, value in section.items() if key not in ("$schema", "$id", "title")},
    }
    whole = {"anyOf": [{"required": ["run"]}, {"oneOf": schema.pop("oneOf")}]}
    return {
        **schema,
        "$id": "urn:hpcrun:schema:sweep",
        "title": "hpcrun sweep",
        "description": "Many runs over a search space: a run configuration, or the name of one, and `sweep`.",
        "properties": properties,
        "required": ["sweep"],
        **whole,
        "$defs": definitions,
    }


def section_schema() -> Schema:
    """The schema of the section alone."""
    schema = _schema(SweepSection, SWEEP, "sweep", "sweep")
    grid = {"properties": {"sampling": {"const": "grid"}}, "required": ["sampling"]}
    schema.update({"if": grid, "else": {"required": ["max_total_runs"]}})
    alone = {"enum": [name for name in PolicySection.model_fields if name not in _WITH_NUMBERS]}
    schema["properties"]["policy"]["anyOf"].insert(0, alone)
    schema["properties"]["space"]["minProperties"] = 1
    return schema


def site_schema() -> Schema:
    """The schema of a site's file."""
    schema = _schema(Site, {**SITE, **RESOURCES}, "site", "hpcrun site")
    del schema["required"]
    schema["properties"]["name"]["type"] = ["string", "null"]
    return schema


def _schema(model: type[BaseModel], texts: dict[str, str], name: str, title: str) -> Schema:
    made = model.model_json_schema()
    definitions = made.pop("$defs")
    for kind, definition in sorted(definitions.items()):
        _adjust(definition, kind, texts)
    _adjust(made, "", texts)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:hpcrun:schema:{name}",
        "title": title,
        "description": made.pop("description"),
        **{key: value for key, value in made.items() if key != "title"},
        "$defs": dict(sorted(definitions.items())),
    }


def _adjust(schema: Schema, kind: str, texts: dict[str, str]) -> None:
    schema["description"] = _prose(schema["description"])
    schema.pop("title", None)
    for name, old in schema["properties"].items():
        new = _property(kind, name, old)
        description = texts[f"{kind}.{name}" if kind else name]
        schema["properties"][name] = {"description": description, **new}
    if kind.endswith("Configuration"):
        schema["required"] = ["type"]
    if kind == "Environment":
        schema["allOf"] = [
            *_one_at_most([kind for kind in ENVIRONMENT_KINDS if kind != "venv"]),
            *_one_at_most([kind for kind in ENVIRONMENT_KINDS if kind != "apptainer"]),
        ]
    if kind == "ApptainerSection":
        either = [
            {"required": [name], "properties": {name: {"not": _NULL}}} for name in ("image", "definition")
        ]
        schema["oneOf"] = either
    if kind in ("Expression", "PolicySection"):
        schema.update(minProperties=1, maxProperties=1)
    if kind == "BanditPolicy":
        schema["oneOf"] = [{"required": [name]} for name in ("slack_factor", "slack_amount")]
    if kind == "Resources":
        schema["allOf"] = _one_at_most(("memory", "memory_per_cpu", "memory_per_gpu"))


def _property(kind: str, name: str, old: Schema) -> Schema:
    old.pop("title", None)
    if old.get("default", ...) is None:
        del old["default"]
    for branch in old.get("anyOf", []):
        branch.pop("discriminator", None)
    # Releases of pydantic differ in these two; the files in docs/schema/ should not.
    if "const" in old:
        old.pop("enum", None)
    if name in ("tags", "partitions"):
        old.pop("propertyNames", None)
        old["propertyNames"] = {"minLength": 1, "maxLength": 255}
    if kind == "Resources" and name == "gpus_per_node":
        return dict(_GPUS)
    if name == "communication_backend":
        return {"type": "string", "pattern": "^([nN][cC][cC][lL]|[gG][lL][oO][oO])$", "default": "nccl"}
    if "memory" in name and "anyOf" in old:
        old["anyOf"][0]["type"] = ["string", "integer", "number"]
    if name in _VARIABLES or name == "tags":
        old["additionalProperties"] = {"type": ["string", "number"]}
    if name in _VARIABLES or name in ("secrets", "inputs"):
        old["propertyNames"] = _NAME_OF_VARIABLE
    if kind == "Resources" and name == "sbatch":
        spelled = sorted({form for option in RESERVED_SBATCH for form in _spellings(option)})
        old["propertyNames"] = {"not": {"enum": spelled}}
    if name == "arguments":
        return {"anyOf": [{"type": "array", "items": old["items"]}, {"type": "string"}, _NULL], "default": []}
    if kind == "" and name == "environment":
        return {
            "anyOf": [
                {"$ref": old["$ref"]},
                {"type": "string", "pattern": "^[^:]+(:[0-9]+|:latest)?$"},
                _NULL,
            ]
        }
    if kind == "Environment" and name == "version":
        return {"anyOf": [{"type": "integer", "minimum": 1}, *old["anyOf"]]}
    if kind == "Expression" and name in FORMS:
        length = len(FORMS[name])
        return {"type": "array", "items": {"type": "number"}, "minItems": length, "maxItems": length}
    if kind == "Expression" and name == "choice":
        return {**old["anyOf"][0], "minItems": 1}
    if name == "space":
        old["propertyNames"] = {"pattern": "^-{0,2}[A-Za-z_][A-Za-z0-9_.-]{0,253}$"}
    if name.startswith("slack"):
        return {"type": "number", "minimum": 0}
    if "$ref" in old:
        return {"anyOf": [{"$ref": old["$ref"]}, _NULL]}
    if old.get("type") in ("array", "object"):
        old["type"] = [old["type"], "null"]
    if name == "partitions":
        old["additionalProperties"] = {"anyOf": [old["additionalProperties"], _NULL]}
    return old


def _spellings(option: str) -> set[str]:
    return {dashes + form for dashes in ("", "--") for form in (option, option.replace("-", "_"))}


def _one_at_most(names: Sequence[str]) -> list[Schema]:
    return [_not_both(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]


def _not_both(first: str, second: str) -> Schema:
    given = {"not": _NULL}
    return {"not": {"required": [first, second], "properties": {first: given, second: given}}}


def _prose(docstring: str) -> str:
    """A docstring without its examples and markup."""
    text = re.split(r"\n\s*>>>", docstring)[0].replace("``", "`")
    return re.sub(r"\s+", " ", text).strip()


def text_of(schema: Schema) -> str:
    """A schema as it stands in docs/schema/."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


SCHEMAS = {"run": run_schema, "pipeline": pipeline_schema, "sweep": sweep_schema, "site": site_schema}


def main(folder: str = "docs/schema") -> None:
    """Write the schemas into ``folder``."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for name, schema in SCHEMAS.items():
        made = schema()
        (place / f"{name}.schema.json").write_text(text_of(made), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
