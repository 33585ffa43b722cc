"""A configuration as YAML that loads back to an equal one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from pathlib import Path as FilePath
from typing import Any

from pydantic import BaseModel

from hpcrun.config.tree import Key, ListNode, MapNode, Node, Path, Place, Scalar
from hpcrun.config.yamltree import resolve_plain
from hpcrun.models.base import Origins
from hpcrun.models.environment import Environment
from hpcrun.models.resources import Gpus, Resources
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site
from hpcrun.units import Duration, Memory

_WORD = r"[\w./@%+=,~-]+(?::[\w./@%+=,~-]+)*"
_SAFE = re.compile(rf"(?:--?(?=[A-Za-z0-9])|(?=[A-Za-z0-9_./])){_WORD}(?: {_WORD})*", re.ASCII)
# Text that other YAML readers take for a truth value, a number of some base, a time or a date.
_ELSEWHERE = re.compile(
    r"(?:y|n|yes|no|on|off|true|false|null)|[-+]?[0-9][0-9_,.:xobe+a-f-]*|[0-9]{4}-[0-9].*|[-+]?\..*|=",
    re.IGNORECASE,
)


def explicit(model: BaseModel) -> dict[str, Any]:
    """What a model says beyond its defaults, as plain data in the model's order.

    A value counts when it was set, or differs from the default (``env.python.…`` assigned to in place
    is set nowhere). Null counts in resources alone, where it takes a site's default away.
    """
    out: dict[str, Any] = {}
    for name, info in type(model).model_fields.items():
        value, was_set = getattr(model, name), name in model.model_fields_set
        default = info.get_default(call_default_factory=True)
        if isinstance(value, Gpus):
            out[name] = str(value) if value.type else value.count  # one value, which replaces another whole
        elif isinstance(value, BaseModel):
            below = explicit(value)
            if below or value != default:
                out[name] = below
        elif value is None:
            if was_set and isinstance(model, Resources):
                out[name] = None
        elif value != default or name == "type" or (was_set and (type(model), name) != (Environment, "name")):
            out[name] = _plain_value(value)
    return out


def _plain_value(value: Any) -> Any:
    if isinstance(value, (Duration, Memory)):
        return value.slurm
    if isinstance(value, BaseModel):
        return explicit(value)
    if isinstance(value, dict):
        return {key: _plain_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain_value(item) for item in value]
    return value


def tree_of(model: BaseModel, origins: Origins, fallback: Place, path: Path = ()) -> MapNode:
    """The tree of a model that lies at ``path`` of what ``origins`` tells about.

    Values keep the place they were loaded from, as long as they are what was loaded; what was assigned
    since then is at ``fallback``.
    """
    root = _node(explicit(model), path, fallback, origins, fallback)
    assert isinstance(root, MapNode)
    return root


def _node(value: Any, path: Path, above: Place, origins: Origins, fallback: Place) -> Node:
    same = _at(origins.data, path) == (value,)
    place = origins.places.get(path, above) if same else fallback
    if isinstance(value, dict):
        entries = {key: _node(item, (*path, key), place, origins, fallback) for key, item in value.items()}
        return MapNode(entries, place, {key: node.place for key, node in entries.items()})
    if isinstance(value, list):
        items = [_node(item, (*path, i), place, origins, fallback) for i, item in enumerate(value)]
        return ListNode(items, place)
    return Scalar(value, place)


def _at(data: Any, path: Path) -> tuple[Any] | None:
    key: Key
    for key in path:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return None
    return (data,)


def dump_run_config(config: ScriptRunConfig, base: FilePath | None = None) -> str:
    """YAML text of ``config``; a source directory at or below ``base`` is written relative to it."""
    data = explicit(config)
    data["source_directory"] = _relative(config.source_directory, base)
    return "\n".join(_lines(data, "")) + "\n"


def dump_site(site: Site) -> str:
    """YAML text of ``site``, without what is left at its default."""
    return "\n".join(_lines(explicit(site), "")) + "\n"


def dump_environment(environment: Environment) -> str:
    """YAML text of ``environment``, without what is left at its default."""
    return "\n".join(_lines(explicit(environment), "")) + "\n"


def yaml_word(value: str | int | bool) -> str:
    """One value, or key, as it stands in YAML: quoted where another reader might see something else in it."""
    return _scalar(value)


def save_run_config(config: ScriptRunConfig, path: FilePath) -> None:
    """Write ``config`` to a file, whole or not at all."""
    path = FilePath(path)
    write_whole(path, dump_run_config(config, path.parent))


def section_lines(name: str, section: BaseModel) -> str:
    """YAML text of one section below its name, without what is left at its default."""
    return "\n".join(_lines({name: explicit(section)}, "")) + "\n"


def write_whole(path: FilePath, text: str) -> None:
    """Write a file whole or not at all."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        umask = os.umask(0o077)
        os.umask(umask)
        FilePath(name).chmod(0o666 & ~umask)
        FilePath(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            FilePath(name).unlink()
        raise


def _relative(directory: str, base: FilePath | None) -> str:
    if base is None:
        return directory
    top = os.path.abspath(base)  # noqa: PTH100 - links keep their names, as in the model
    if directory == top:
        return "."
    below = directory.removeprefix(top.rstrip("/") + "/")
    if below == directory or below.startswith("/"):
        return directory
    return f"./{below}" if below.startswith("~") else below


def _is_expression(key: str) -> bool:
    from hpcrun.models.expressions import FORMS

    return key in FORMS


def _lines(data: dict[str, Any], indent: str) -> list[str]:
    out = []
    for key, value in data.items():
        head = f"{indent}{_scalar(key)}:"
        if isinstance(value, dict) and value:
            out += [head, *_lines(value, indent + "  ")]
        elif isinstance(value, list) and value and _is_expression(key):
            out.append(f"{head} [{', '.join(map(_scalar, value))}]")
        elif isinstance(value, list) and value:
            out += [head, *(line for item in value for line in _item(item, indent))]
        elif isinstance(value, str) and _fits_block(value):
            body = value.removesuffix("\n")
            out.append(f"{head} {'|' if value.endswith(chr(10)) else '|-'}")
            out += [f"{indent}  {line}" if line else "" for line in body.split("\n")]
        elif isinstance(value, (dict, list)):
            out.append(f"{head} {'{}' if isinstance(value, dict) else '[]'}")
        else:
            out.append(f"{head} {_scalar(value)}")
    return out


def _item(item: Any, indent: str) -> list[str]:
    if not isinstance(item, dict) or not item:
        return [f"{indent}- {_scalar(item)}"]
    first, *rest = _lines(item, indent + "  ")
    return [f"{indent}- {first.removeprefix(indent + '  ')}", *rest]


def _fits_block(text: str) -> bool:
    """Whether text can stand as it is, indented, below ``|``."""
    lines = text.removesuffix("\n").split("\n")
    return (
        len(lines) > 1
        and all(line.isprintable() and line == line.rstrip() for line in lines)
        and bool(lines[0])
        and not lines[0][0].isspace()
        and bool(lines[-1])
    )


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value)  # as Python spells it, and so as the script gets it
    if isinstance(value, (int, float)):
        return repr(value)
    text = str(value)
    if _SAFE.fullmatch(text) and not _ELSEWHERE.fullmatch(text) and isinstance(resolve_plain(text), str):
        return text
    return _quoted(text)


def _quoted(text: str) -> str:
    """Text in double quotes; only what YAML and every terminal can show stands in it as it is."""
    out = ""
    for char in text:
        if char.isprintable():
            out += json.dumps(char, ensure_ascii=False)[1:-1]
        elif char in "\n\t\r":
            out += {"\n": "\\n", "\t": "\\t", "\r": "\\r"}[char]
        elif ord(char) < 0x100:
            out += f"\\x{ord(char):02X}"
        elif ord(char) < 0x10000:
            out += f"\\u{ord(char):04X}"
        else:
            out += f"\\U{ord(char):08X}"
    return f'"{out}"'
