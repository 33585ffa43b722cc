"""What a validation error means, in words for people, and which key was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hpcrun.config.tree import ListNode, MapNode, Node, Scalar, printable

_TYPES = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "string_unicode": "text of whole Unicode characters",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
}

PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9_-]{0,254}$": "up to 255 letters, digits, _ and -, a letter or digit first",
    r"^[A-Za-z0-9][A-Za-z0-9_.-]*(:[^:\s]+)?$": "SITE or SITE:PARTITION",
    r"^[A-Za-z0-9][A-Za-z0-9_.-]*$": "letters, digits, _, . and -, a letter or digit first",
    r"^-?[A-Za-z_][A-Za-z0-9_.-]{0,253}$": "letters, digits, _, . and -, no digit first",
    r"^/": "an absolute path",
    r"^(/|~(/|$)|\$[A-Za-z_{])": ("an absolute path, or one that begins with ~ or a variable, as $SCRATCH"),
}

_REWORDED = {
    "No closing quotation": "a quote in it is never closed",
    "No escaped character": "it ends with a lone backslash",
}

_YES_NO = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}

# Other systems' and other people's words for what hpcrun has, in snake case.
_ALIASES = {
    "args": "arguments", "argument": "arguments", "cmd": "command", "entry_script": "script",
    "file": "script", "target": "compute_target", "cluster": "compute_target", "site": "compute_target",
    "compute": "compute_target", "source": "source_directory", "src": "source_directory",
    "code": "source_directory", "workdir": "source_directory", "experiment_name": "experiment",
    "name": "display_name", "env": "environment_variables", "envs": "environment_variables",
    "env_vars": "environment_variables", "variables": "environment_variables",
    "walltime": "resources.time", "timelimit": "resources.time", "time_limit": "resources.time",
    "timeout": "resources.time", "duration": "resources.time", "node_count": "resources.nodes",
    "num_nodes": "resources.nodes", "instance_count": "resources.nodes", "gpus": "resources.gpus_per_node",
    "gpu": "resources.gpus_per_node", "gres": "resources.gpus_per_node", "cpus": "resources.cpus_per_task",
    "cores": "resources.cpus_per_task", "mem": "resources.memory", "mem_per_cpu": "resources.memory_per_cpu",
    "mem_per_gpu": "resources.memory_per_gpu", "queue": "resources.partition",
    "ntasks_per_node": "resources.tasks_per_node", "max_run_duration": "max_run_duration_seconds",
    "distributed": "distributed_job_config", "pytorch": "distributed_job_config with type: pytorch",
    "mpi": "distributed_job_config with type: mpi", "framework": "distributed_job_config.type",
    "communicator": "distributed_job_config.communication_backend",
    "backend": "distributed_job_config.communication_backend", "conda_env": "environment.conda.name",
    "docker": "environment.apptainer", "container": "environment.apptainer",
    "singularity": "environment.apptainer", "image": "environment.apptainer.image",
    "module": "environment.modules",
}  # fmt: skip


def expected(error: Mapping[str, Any]) -> str | None:
    """What one pydantic error expected, as ``a whole number``; None where it is no such error."""
    kind, ctx = error["type"], error.get("ctx", {})
    if kind in _TYPES:
        return _TYPES[kind]
    if kind == "greater_than_equal":
        return f"a whole number of at least {ctx['ge']}"
    if kind == "less_than_equal":
        return f"a whole number of at most {ctx['le']}"
    if kind == "literal_error":
        return str(ctx["expected"]).replace("'", "")
    if kind == "string_pattern_mismatch":
        return PATTERNS.get(ctx["pattern"], f"text like {ctx['pattern']}")
    if kind == "string_too_short":
        return "some text"
    if kind == "string_too_long":
        return f"at most {ctx['max_length']} characters"
    if kind == "too_short":
        if isinstance(error.get("input"), str):
            return "some text"
        return "a list of at least one item"
    return None


def tags(error: Mapping[str, Any]) -> list[str]:
    """The words that choose a branch of a union."""
    said = error.get("ctx", {}).get("expected_tags", "")
    return re.findall(r"'([^']*)'", said) or ["mpi", "pytorch", "tensorflow"]


def is_type_error(error: Mapping[str, Any]) -> bool:
    """Whether the value was of the wrong kind altogether, rather than wrong in itself."""
    return error["type"] in _TYPES


def stated(error: Mapping[str, Any]) -> str:
    """The message of an error that is no matter of "expected this, found that"."""
    cause = error.get("ctx", {}).get("error")
    message = str(cause) if cause is not None else str(error["msg"])
    return _REWORDED.get(message, message)


def found(node: Node | None) -> str:
    """``found -1``, ``found the text "two"``, ``found a list``."""
    if isinstance(node, MapNode):
        return "found keys and values"
    if isinstance(node, ListNode):
        return "found a list"
    if node is None or node.value is None:
        return "found nothing" if node is None or not node.text else f"found {node.text}"
    if isinstance(node.value, str):
        return f'found the text "{printable(node.value)}"' if node.value else "found an empty text"
    return f"found {printable(said(node))}"


def said(node: Scalar) -> str:
    """A value as it was written."""
    if node.text is not None:
        return node.text.strip()
    return str(node.value).lower() if isinstance(node.value, bool) else str(node.value)


def quoting_hint(errors: Iterable[Mapping[str, Any]], node: Node | None) -> str:
    """What to do where only the quotes are wrong."""
    kinds = {error["type"] for error in errors}
    if not isinstance(node, Scalar):
        return ""
    if node.value is None:
        if kinds != {"string_type"}:
            return ""
        return f'put it in quotes: "{said(node)}"' if node.text else 'write "" for an empty text'
    if kinds == {"bool_type"} and str(node.value).lower() in _YES_NO:
        return f"write {_YES_NO[str(node.value).lower()]}"
    if kinds == {"string_type"} and not isinstance(node.value, str):
        return f'put it in quotes: "{printable(said(node))}"'
    if "int_type" in kinds and isinstance(node.value, str) and re.fullmatch(r"[1-9]\d{0,8}", node.value):
        return f"take the quotes away: {node.value}"
    return ""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def snake(key: str) -> str:
    """``maxRunDurationSeconds`` -> ``max_run_duration_seconds``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower().replace("-", "_").replace(" ", "_")


def meant(key: str, siblings: list[str], prefix: str, tree: Mapping[str, Any]) -> str | None:
    """The path of the key that an unknown ``key`` below ``prefix`` stands for.

    ``siblings`` are the keys known there, ``tree`` all keys of the whole model, nested.
    """
    plain, here = snake(key), f"{prefix}." if prefix else ""
    if plain in siblings:
        return here + plain
    everywhere = list(_paths(tree))
    alias = _ALIASES.get(plain)
    if alias is not None and alias.split(" ")[0] in everywhere:
        return alias
    elsewhere = [path for path in everywhere if path.rpartition(".")[2] == plain and path != here + key]
    if elsewhere:
        return min(elsewhere, key=lambda path: path.count("."))
    close = nearest(plain, siblings)
    if close is not None:
        return here + close
    leaves = {path.rpartition(".")[2]: path for path in reversed(everywhere)}
    far = difflib.get_close_matches(plain, list(leaves), n=1, cutoff=0.75)
    return leaves[far[0]] if far else None


def _paths(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, below in tree.items():
        yield prefix + key
        yield from _paths(below, f"{prefix}{key}.")
