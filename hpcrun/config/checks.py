"""What only the whole configuration, or the file system, can tell."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path as FilePath

from hpcrun.config.dump import tree_of
from hpcrun.config.tree import PYTHON, MapNode, Path, Place
from hpcrun.config.validate import place_of
from hpcrun.config.words import nearest
from hpcrun.errors import Problem
from hpcrun.models.layout import LayoutError, layout
from hpcrun.models.run import ScriptRunConfig

LEFT_OUT = ("outputs", "logs")


def config_tree(config: ScriptRunConfig) -> MapNode:
    """The tree of a configuration, with the places it was loaded from."""
    return tree_of(config, config._origins, Place(PYTHON))


def contradictions(config: ScriptRunConfig) -> list[tuple[Path, str]]:
    """Counts of processes, nodes and GPUs that cannot all be true; two words on the same thing."""
    return [*_counts(config), *_said_twice(config), *_too_late(config)]


def _counts(config: ScriptRunConfig) -> list[tuple[Path, str]]:
    try:
        layout(config)
    except LayoutError as error:
        return [(tuple(error.path.split(".")), str(error))]
    return []


def _said_twice(config: ScriptRunConfig) -> list[tuple[Path, str]]:
    said: dict[str, str] = {}
    if config.requeue is not None:
        said |= dict.fromkeys(("requeue", "no-requeue", "signal"), "requeue")
    if config.notify is not None and config.notify.mail is not None:
        said |= dict.fromkeys(("mail-user", "mail-type"), "notify")
    return [
        (("resources", "sbatch", name), f"{said[name]}: says this already: leave one of the two out")
        for name in config.resources.sbatch
        if name in said
    ]


def _too_late(config: ScriptRunConfig) -> list[tuple[Path, str]]:
    """A signal that would come before the run begins."""
    limits = {
        "resources.time": config.resources.time,
        "max_run_duration_seconds": config.max_run_duration_seconds,
    }
    for name, limit in limits.items():
        if config.requeue is not None and limit is not None and limit <= config.requeue.seconds:
            words = f"is to come {config.requeue.seconds} s before the end, and {name} is {int(limit)} s"
            shorter = f"{config.requeue.signal_name}@{max(1, int(limit) // 4)}"
            return [(("requeue", "signal"), f"{words}: write {shorter}, say")]
    return []


def final_contradictions(config: ScriptRunConfig) -> list[tuple[Path, str]]:
    """The same, once a site has filled in what it does: memory and GPUs may come from different files."""
    problems = [*_counts(config), *_too_late(config)]
    if config.resources.memory_per_gpu is not None and not config.resources.gpu_count:
        problems.append((("resources", "memory_per_gpu"), "memory_per_gpu needs gpus_per_node"))
    return problems


def check_files(config: ScriptRunConfig) -> list[Problem]:
    """What is wrong with the source directory and the script, as they lie on this machine's disk."""
    source = FilePath(config.source_directory)
    if not source.is_dir():
        what = "is not a directory" if source.exists() else "there is no such directory"
        return [_problem(config, "source_directory", f"{what}: {source}")]
    if config.script is None:
        return []
    message, hint = _script_fault(source, config.script)
    return [_problem(config, "script", message, hint)] if message else []


def check_names(config: ScriptRunConfig, names: Collection[str]) -> list[Problem]:
    """What is wrong with the script, where a snapshot's files of these names will be the source."""
    if config.script is None:
        return []
    script = os.path.normpath(config.script)
    # What lies behind a link is looked for when the run begins; the link itself is one of the names.
    if any(str(path) in names for path in (FilePath(script), *FilePath(script).parents)):
        return []
    close = nearest(script, names)
    hint = f"did you mean {close}?" if close else ""
    return [_problem(config, "script", f"there is no {config.script} in the snapshot", hint)]


def _script_fault(source: FilePath, script: str) -> tuple[str, str]:
    inside = f"the script is a path inside {source}"
    if FilePath(script).is_absolute():
        return f"{script} is an absolute path", inside
    parts = FilePath(os.path.normpath(script)).parts
    if parts and parts[0] == "..":
        return f"{script} lies outside the source directory", inside
    if parts and parts[0] in LEFT_OUT:
        return f"{script} lies in {parts[0]}/, which is left out of the snapshot", "move it elsewhere"
    path = source / script
    try:
        real = path.resolve()
        if not path.exists():
            return f"there is no {script} in {source}", _similar(source, script)
        if not path.is_file():
            return f"{script} is not a file", ""
    except (OSError, RuntimeError, ValueError) as error:
        return f"{script} cannot be looked at: {error}", ""
    home = source.resolve()
    if home not in real.parents:
        return f"{script} leads outside the source directory, to {real}", inside
    if real.relative_to(home).parts[0] in LEFT_OUT:
        return (
            f"{script} leads into {real.relative_to(home).parts[0]}/, which is left out of the snapshot",
            "",
        )
    return "", ""


def _similar(source: FilePath, script: str) -> str:
    """A file of nearly that name beside where the script was expected, or below the top folder."""
    folder = (source / script).parent
    try:
        names = [entry.name for entry in folder.iterdir() if entry.is_file()] if folder.is_dir() else []
    except OSError:
        return ""
    close = nearest(FilePath(script).name, names)
    return f"did you mean {FilePath(script).parent / close}?" if close else ""


def _problem(config: ScriptRunConfig, key: str, message: str, hint: str = "") -> Problem:
    where = str(place_of(config_tree(config), (key,)))
    return Problem(message, where=where, path=key, hint=hint)
