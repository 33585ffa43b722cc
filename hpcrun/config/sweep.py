"""Sweeps in files: a run.yaml with a section ``sweep:``, or with that and the name of a run.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath

from hpcrun.config.dump import dump_run_config, section_lines, write_whole
from hpcrun.config.load import at_file, resolve_layers
from hpcrun.config.merge import flags_layer, merge_layers, overrides_layer
from hpcrun.config.pipeline import SWEEP
from hpcrun.config.targets import unknown_target
from hpcrun.config.tree import MapNode, Path, Scalar, get, is_null, path_text, with_node, without
from hpcrun.config.validate import build, place_of
from hpcrun.config.yamltree import parse, read_file
from hpcrun.errors import ConfigError, NotFoundError, Problem
from hpcrun.models.base import Model
from hpcrun.models.expressions import parameter_name
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.sweep import SweepConfig, SweepSection, contradictions

RUN = "run"


class SweepFile(Model):
    """What a sweep's file has beside the keys of its run."""

    sweep: SweepSection


def is_sweep(path: FilePath) -> bool:
    """Whether a file has a section ``sweep:``. Raises ConfigError, NotFoundError."""
    return SWEEP in read_file(FilePath(path))[0].entries


def load_sweep(
    path: FilePath,
    *,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
    workspace: FilePath | None = None,
) -> SweepConfig:
    """The sweep in a file, with ``--set`` overrides (``sweep.seed=7``) and then flags on top.

    Otherwise as :func:`hpcrun.config.load.load_run_config`. Raises ConfigError with all problems at once,
    NotFoundError where there is no such file.
    """
    path = FilePath(path)
    tree, problems = read_file(path)
    upper, more = overrides_layer(overrides)
    problems = [*problems, *more]
    above = [upper, flags_layer(flags or {})]
    own = without(tree, (RUN,)) if RUN in tree.entries else at_file(tree, path)
    layers = [*_named_run(tree, path, problems), *map(_of_run, [own, *above])]
    if workspace is not None:
        problems += unknown_target(merge_layers(layers), workspace)
    return _sweep(layers, [_of_sweep(each) for each in [tree, *above]], problems)


def read_sweep(
    text: str,
    shown: str,
    *,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
) -> SweepConfig:
    """The sweep in a text that :func:`dump_sweep` wrote; ``shown`` names it in errors, overrides and flags go
    on top. Raises ConfigError."""
    tree, problems = parse(text, shown)
    if not isinstance(tree, MapNode):
        raise ConfigError([Problem("expected keys and values (key: value) at the top", where=shown)])
    upper, more = overrides_layer(overrides)
    layers = [tree, upper, flags_layer(flags or {})]
    return _sweep([*map(_of_run, layers)], [*map(_of_sweep, layers)], [*problems, *more])


def dump_sweep(config: SweepConfig, base: FilePath | None = None) -> str:
    """YAML text of a sweep; a source directory at or below ``base`` is written relative to it."""
    return dump_run_config(config.run_config, base) + section_lines(SWEEP, config.section)


def save_sweep(config: SweepConfig, path: FilePath) -> None:
    """Write a sweep to a file, whole or not at all."""
    path = FilePath(path)
    write_whole(path, dump_sweep(config, path.parent))


def _sweep(runs: list[MapNode], sweeps: list[MapNode], problems: list[Problem]) -> SweepConfig:
    found, run, file = list[Problem](), None, None
    tree = sweeps[0]
    for layer in sweeps[1:]:
        tree = merge_layers([_make_room(tree, layer), layer])
    missing = is_null(tree.entries.get(SWEEP))
    if missing:
        where = str(tree.key_place(SWEEP))
        if SWEEP in tree.entries:
            words, hint = "expected keys and values, as in sweep: {space: …}", ""
        else:
            words, hint = "is missing: there is nothing to search", "A run alone: hpcrun submit"
        found.append(Problem(words, where=where, path=SWEEP, hint=hint))
    try:
        run = resolve_layers(runs, problems)
    except ConfigError as error:
        no_run = any(problem.path == RUN for problem in problems)
        found += [each for each in error.problems if each.path or not no_run]
    try:
        file = None if missing else build(SweepFile, tree, lambda made: _prefixed(made.sweep, run), problems)
    except ConfigError as error:
        found += error.problems
    if found or run is None or file is None:
        raise ConfigError(list(dict.fromkeys(found)))
    return SweepConfig.of(file.sweep, run)


def _prefixed(section: SweepSection, run: ScriptRunConfig | None) -> list[tuple[Path, str]]:
    return [((SWEEP, *path), message) for path, message in contradictions(section, run)]


def _of_sweep(layer: MapNode) -> MapNode:
    """What a layer says of the sweep, with the hyperparameters' names as they are kept."""
    kept = {key: value for key, value in layer.entries.items() if key == SWEEP}
    tree = MapNode(kept, layer.place, {key: layer.key_place(key) for key in kept})
    space = get(tree, (SWEEP, "space"))
    if not isinstance(space, MapNode) or len({*map(parameter_name, space.entries)}) < len(space.entries):
        return tree
    entries = {parameter_name(key): value for key, value in space.entries.items()}
    named = MapNode(
        entries, space.place, {parameter_name(key): space.key_place(key) for key in space.entries}
    )
    return with_node(tree, (SWEEP, "space"), named)


def _of_run(layer: MapNode) -> MapNode:
    """What it says of the run."""
    return without(layer, (SWEEP,))


def _make_room(lower: MapNode, upper: MapNode) -> MapNode:
    """``lower`` without what is to be another expression, or another policy."""
    space = get(upper, (SWEEP, "space"))
    paths: list[Path] = [(SWEEP, "space", name) for name in getattr(space, "entries", {})]
    for path in [*paths, (SWEEP, "policy")]:
        old, new = get(lower, path), get(upper, path)
        if not (isinstance(old, MapNode) and isinstance(new, MapNode)):
            continue
        if new.entries.keys() != old.entries.keys():
            lower = with_node(lower, path, new)  # where it stood, since the order is that of a grid
    return lower


def _named_run(tree: MapNode, path: FilePath, problems: list[Problem]) -> list[MapNode]:
    """The file that ``run:`` names, below what the sweep's own file says."""
    node = tree.entries.get(RUN)
    if node is None:
        return []
    where = str(place_of(tree, (RUN,)))
    if not isinstance(node, Scalar) or not isinstance(node.value, str) or not node.value:
        problems.append(Problem("expected the name of a run.yaml", where=where, path=RUN))
        return []
    named = path.parent / FilePath(node.value).expanduser()
    try:
        below, more = read_file(named)
    except NotFoundError as error:
        problems.append(Problem(error.message, where=where, path=RUN))
        return []
    for key in (RUN, SWEEP, "steps"):
        if key in below.entries:
            words = f"{named.name} has {key} of its own: name a run.yaml"
            problems.append(Problem(words, where=where, path=path_text((RUN,))))
            below = without(below, (key,))
    problems += more
    return [at_file(below, named)]
