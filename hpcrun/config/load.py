"""run.yaml (or Python) to a ScriptRunConfig: layered, validated, every error with its place."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from hpcrun.config.checks import check_files as check_files
from hpcrun.config.checks import check_names as check_names
from hpcrun.config.checks import config_tree as config_tree
from hpcrun.config.checks import contradictions, final_contradictions
from hpcrun.config.distributed import as_written, spelled_out
from hpcrun.config.dump import dump_run_config as dump_run_config
from hpcrun.config.dump import explicit
from hpcrun.config.dump import save_run_config as save_run_config
from hpcrun.config.merge import flags_layer, merge_layers, overrides_layer
from hpcrun.config.targets import chosen_partition, site_layers, unknown_target, with_partition
from hpcrun.config.targets import find_target as find_target
from hpcrun.config.tree import DEFAULTS, MapNode, Place, Scalar, from_python, is_null, walk, with_entry
from hpcrun.config.validate import Check, build
from hpcrun.config.yamltree import parse, read_file
from hpcrun.errors import ConfigError, Problem
from hpcrun.models.base import Origins
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site


def load_run_config(
    path: FilePath,
    *,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
    site: Site | None = None,
    defaults: Mapping[str, object] | None = None,
    workspace: FilePath | None = None,
) -> ScriptRunConfig:
    """The configuration in a file, with ``--set`` overrides and then flags on top.

    ``flags`` maps key paths (``resources.nodes``) to values; None means not given. ``defaults`` lie
    below everything, those of ``site`` and its partition above them. A relative ``source_directory`` in
    the file is relative to the file's folder, which is also the default. With a ``workspace`` (the folder
    that holds ``.hpcrun``), a target that names no site there is one of the problems.

    Raises ConfigError with all problems at once, NotFoundError where there is no such file.
    """
    path = FilePath(path)
    tree, problems = read_file(path)
    below = from_python(defaults or {}, Place(DEFAULTS))
    assert isinstance(below, MapNode)
    upper, more = overrides_layer(overrides)
    layers = _Layers(below, [at_file(tree, path), upper, flags_layer(flags or {})], [*problems, *more])
    if workspace is not None:
        layers.problems += unknown_target(merge_layers(layers.above), workspace)
    return layers.resolve(site)


def read_run_config(text: str, shown: str) -> ScriptRunConfig:
    """The configuration in a text that :func:`dump_run_config` wrote; ``shown`` names it in errors.

    Raises ConfigError.
    """
    tree, problems = parse(text, shown)
    if not isinstance(tree, MapNode):
        raise ConfigError([Problem("expected keys and values (key: value) at the top", where=shown)])
    return _Layers(MapNode({}, Place(DEFAULTS)), [tree], problems).resolve(None)


def resolve_run_config(
    config: ScriptRunConfig,
    *,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
    site: Site | None = None,
    partition: str | None = None,
) -> ScriptRunConfig:
    """The same layers around a configuration that is there already; it is left as it is.

    What ``config`` does not say is filled from the site's and the partition's defaults; where a value
    was loaded from a file, an error about it still names its line. Raises ConfigError.
    """
    upper, problems = overrides_layer(overrides)
    layers = [config_tree(config), upper, flags_layer(flags or {})]
    return _Layers(MapNode({}, Place(DEFAULTS)), layers, problems).resolve(site, partition)


def resolve_layers(layers: Sequence[MapNode], problems: Sequence[Problem]) -> ScriptRunConfig:
    """The configuration that lies in layers, the lowest first, of which ``problems`` are known already.

    Raises ConfigError.
    """
    return _Layers(MapNode({}, Place(DEFAULTS)), [*layers], [*problems]).resolve(None)


def apply_site(config: ScriptRunConfig, site: Site, partition: str | None = None) -> ScriptRunConfig:
    """``config`` with what it leaves open filled in by ``site`` and its partition.

    The partition is ``partition``, else that of ``compute_target: SITE:PARTITION``, else
    ``resources.partition``, else the site's ``default_partition``. Raises ConfigError.
    """
    return resolve_run_config(config, site=site, partition=partition)


@dataclass
class _Layers:
    """What lies below a site's defaults, what lies above, and what is wrong with it so far.

    ``names``: what was written, at which place, for a longer name.
    """

    below: MapNode
    above: list[MapNode]
    problems: list[Problem]
    names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.below, *self.above = [self._spelled_out(tree) for tree in (self.below, *self.above)]

    def _spelled_out(self, tree: MapNode) -> MapNode:
        tree, problems, names = spelled_out(tree)
        self.problems = [*self.problems, *problems]
        self.names |= names
        return tree

    def resolve(self, site: Site | None, partition: str | None = None) -> ScriptRunConfig:
        asked = merge_layers(self.above)
        if site is None:
            return self._config(merge_layers([self.below, asked]))
        try:
            chosen = chosen_partition(asked, site, partition)
        except ConfigError as error:
            self.problems += error.problems
            return self._config(merge_layers([self.below, asked]))
        merged = merge_layers([self.below, *site_layers(site, chosen), asked])
        return self._config(
            merged if chosen is None else with_partition(merged, chosen), final_contradictions
        )

    def _config(self, tree: MapNode, check: Check = contradictions) -> ScriptRunConfig:
        try:
            config = build(ScriptRunConfig, tree, check, self.problems)
        except ConfigError as error:
            raise ConfigError([as_written(problem, self.names) for problem in error.problems]) from None
        places = {path: node.place for path, node in walk(tree)}
        config._origins = Origins(places, explicit(config))
        return config


def at_file(tree: MapNode, path: FilePath) -> MapNode:
    """The tree with ``source_directory`` as an absolute path, seen from the file's folder."""
    folder = os.path.abspath(path.parent)  # noqa: PTH100 - links keep their names, as in the model
    node = tree.entries.get("source_directory")
    if is_null(node):
        place = tree.place if node is None else node.place
        return with_entry(tree, "source_directory", Scalar(folder, place), tree.key_place("source_directory"))
    if isinstance(node, Scalar) and isinstance(node.value, str) and not node.value.startswith(("~", "/")):
        value = f"{folder}/{node.value}" if node.value else ""
        return with_entry(
            tree, "source_directory", Scalar(value, node.place), tree.key_place("source_directory")
        )
    return tree
