"""Pipelines: runs in one file, what they have in common said once, and which of them come before which."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from hpcrun.config.checks import config_tree
from hpcrun.config.load import at_file, resolve_layers
from hpcrun.config.merge import flags_layer, merge_layers, overrides_layer
from hpcrun.config.targets import unknown_target
from hpcrun.config.tree import MapNode, Path, Scalar, get, is_null, path_text, with_entry, without
from hpcrun.config.validate import place_of
from hpcrun.config.words import nearest
from hpcrun.config.yamltree import read_file
from hpcrun.errors import ConfigError, Problem
from hpcrun.models.earlier import STEP, input_of, when_and_whom
from hpcrun.models.notify import Notify
from hpcrun.models.run import ScriptRunConfig

STEPS = "steps"
SWEEP = "sweep"
OF_ALL = ("experiment", "display_name", "description")
NOTIFY = "notify"
"""Keys at the top that are the pipeline's own, and not a default for its steps."""


@dataclass
class Pipeline:
    """Runs of one experiment, by the names of their steps; each begins when those that it needs have ended.

    A step needs those that its ``needs`` name, and those whose files are among its ``inputs``.

    >>> Pipeline({
    ...     "prepare": ScriptRunConfig("src", "prepare.py"),
    ...     "train": ScriptRunConfig("src", "train.py", inputs={"data": "steps.prepare/outputs/data.csv"}),
    ... })
    """

    steps: Mapping[str, ScriptRunConfig]
    display_name: str | None = None
    description: str | None = None
    experiment: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    notify: Notify | None = None


def is_pipeline(path: FilePath) -> bool:
    """Whether a file has steps. Raises ConfigError, NotFoundError."""
    return STEPS in read_file(FilePath(path))[0].entries


def load_pipeline(
    path: FilePath,
    *,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
    workspace: FilePath | None = None,
) -> Pipeline:
    """The pipeline in a file, with ``--set`` overrides and then flags on top of every step.

    ``--set steps.NAME.KEY=VALUE`` is for one step. Otherwise as :func:`hpcrun.config.load.load_run_config`.
    Raises ConfigError with all problems at once, NotFoundError where there is no such file.
    """
    path = FilePath(path)
    tree, problems = read_file(path)
    upper, more = overrides_layer(overrides)
    problems += more
    nodes = _steps(tree, upper, problems)
    common, of_all = without(tree, (STEPS,)), without(upper, (STEPS,))
    steps: dict[str, ScriptRunConfig] = {}
    found = list(problems)
    for name, node in nodes.items():
        own = get(upper, (STEPS, name))
        # Merged in one go with what lies above them, since what one says in short another may say at length.
        where = _only(at_file(merge_layers([common, node]), path), "source_directory")
        layers = [common, node, where, of_all]
        layers += [own] if isinstance(own, MapNode) else []
        layers.append(flags_layer(flags or {}))
        missing = [] if workspace is None else unknown_target(merge_layers(layers), workspace)
        try:
            steps[name] = resolve_layers(layers, [*problems, *missing])
        except ConfigError as error:
            found += error.problems
    top = merge_layers([common, of_all, flags_layer(flags or {})])
    said: dict[str, Any] = {key: _text(top, key) for key in OF_ALL}
    told: Notify | None = None
    for name, config in steps.items():
        for key in OF_ALL[1:]:
            if is_null(nodes[name].entries.get(key)):
                setattr(config, key, name if key == "display_name" else None)
        if is_null(nodes[name].entries.get(NOTIFY)) and config.notify is not None:
            told, config.notify = config.notify, None
    if steps and len(steps) == len(nodes):
        try:
            in_order(steps)
        except ConfigError as error:
            found += error.problems
    if found:
        raise ConfigError(list(dict.fromkeys(found)))
    return Pipeline(steps, notify=told, **said)


def _only(tree: MapNode, key: str) -> MapNode:
    return with_entry(MapNode({}, tree.place), key, tree.entries[key], tree.key_place(key))


def _text(tree: MapNode, key: str) -> Any:
    node = tree.entries.get(key)
    return node.value if isinstance(node, Scalar) and isinstance(node.value, str) else None


def _steps(tree: MapNode, upper: MapNode, problems: list[Problem]) -> dict[str, MapNode]:
    """What is written of each step; what is wrong with it is added to the problems."""
    node, found = tree.entries.get(STEPS), dict[str, MapNode]()
    if not isinstance(node, MapNode) or not node.entries:
        where = str(tree.key_place(STEPS))
        problems.append(Problem("expected steps by their names (NAME: …)", where=where, path=STEPS))
        return {}
    for name, step in node.entries.items():
        path, where = path_text((STEPS, name)), str(node.key_place(name))
        if not re.fullmatch(STEP, name):
            hint = "Letters, digits, _ and -, a letter first, 63 at most."
            problems.append(Problem("not a name for a step", where=where, path=path, hint=hint))
        elif is_null(step):
            found[name] = MapNode({}, step.place)
        elif not isinstance(step, MapNode):
            problems.append(Problem("expected keys and values, as in run.yaml", where=where, path=path))
        else:
            found[name] = step
            if "experiment" in step.entries:
                where = str(step.key_place("experiment"))
                words = "all steps are of one experiment: say it at the top"
                problems.append(Problem(words, where=where, path=f"{path}.experiment"))
    own = upper.entries.get(STEPS)
    for name in own.entries if isinstance(own, MapNode) else ():
        if name not in node.entries:
            problems.append(_unknown(name, node.entries, str(upper.place), path_text((STEPS, name))))
    return found


def _unknown(name: str, steps: Mapping[str, object], where: str, path: str) -> Problem:
    close = nearest(name, steps)
    hint = f"did you mean {close}?" if close else f"there are: {', '.join(steps)}"
    return Problem(f"there is no step {name}", where=where, path=path, hint=hint)


def needed(config: ScriptRunConfig) -> dict[str, Path]:
    """The steps that one comes after, and the keys that say so first."""
    found: dict[str, Path] = {}
    for index, text in enumerate(config.needs):
        found.setdefault(when_and_whom(text)[1], ("needs", index))
    for name, text in config.inputs.items():
        if step := input_of(text).step:
            found.setdefault(step, ("inputs", name))
    return found


def in_order(steps: Mapping[str, ScriptRunConfig]) -> list[str]:
    """The names, each after all that it needs. Raises ConfigError for circles and for steps that are not."""
    if not steps:
        raise ConfigError([Problem("a pipeline needs at least one step", path=STEPS)])
    problems = [
        Problem(f"not a name for a step: {name!r}", path=STEPS)
        for name in steps
        if not re.fullmatch(STEP, name)
    ]
    for name, config in steps.items():
        for step, key in needed(config).items():
            if step not in steps:
                where = str(place_of(config_tree(config), key))
                problems.append(_unknown(step, steps, where, path_text((STEPS, name, *key))))
    if problems:
        raise ConfigError(problems)
    done: list[str] = []
    while len(done) < len(steps):
        free = next((n for n in steps if n not in done and set(needed(steps[n])) <= set(done)), None)
        if free is None:
            raise ConfigError([_circle({n: steps[n] for n in steps if n not in done})])
        done.append(free)
    return done


def _circle(steps: Mapping[str, ScriptRunConfig]) -> Problem:
    """What is wrong with steps of which each needs another of them."""
    walk = [next(iter(steps))]
    while True:
        step, key = next((s, k) for s, k in needed(steps[walk[-1]]).items() if s in steps)
        if step in walk:
            circle = [*walk[walk.index(step) :], step]
            where = str(place_of(config_tree(steps[walk[-1]]), key))
            path = path_text((STEPS, walk[-1], *key))
            words = f"these steps wait for each other: {' needs '.join(circle)}"
            return Problem(words, where=where, path=path)
        walk.append(step)
