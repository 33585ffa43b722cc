"""``SITE:PARTITION``, and what a site and its partition fill in below a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path as FilePath

from hpcrun.config.dump import tree_of
from hpcrun.config.sites import find_site, load_site, split_target
from hpcrun.config.tree import PYTHON, MapNode, Place, Scalar, from_python, get, with_entry
from hpcrun.config.validate import place_of
from hpcrun.config.words import nearest
from hpcrun.errors import ConfigError, NotFoundError, Problem
from hpcrun.models.resources import Resources
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site

TARGET, PARTITION = ("compute_target",), ("resources", "partition")


@dataclass(frozen=True)
class Chosen:
    """A partition, and where it was chosen."""

    name: str
    place: Place


def find_target(config: ScriptRunConfig, workspace: FilePath | None) -> Site:
    """The site that ``config.compute_target`` names. Raises ConfigError, at the place it was named."""
    try:
        return load_site(split_target(config.compute_target)[0], workspace)
    except NotFoundError as error:
        tree = tree_of(config, config._origins, Place(PYTHON))
        raise _refused(tree, TARGET, error.message, error.hint or "") from None


def unknown_target(tree: MapNode, workspace: FilePath) -> list[Problem]:
    """The problem with a ``compute_target`` that names no site, if it does not."""
    target = _text(tree, TARGET)
    if target is None:
        return []
    try:
        find_site(split_target(target)[0], workspace)
    except NotFoundError as error:
        return _refused(tree, TARGET, error.message, error.hint or "").problems
    return []


def chosen_partition(tree: MapNode, site: Site, partition: str | None = None) -> Chosen | None:
    """The partition that ``tree`` asks of ``site``, or the site's default. Raises ConfigError.

    Named twice and differently, or unknown to a site that lists its partitions, it is refused. None on a
    local site, which has none.
    """
    from_target, from_key = split_target(_text(tree, TARGET) or "")[1], _text(tree, PARTITION)
    if from_target is not None and from_key is not None and from_target != from_key:
        message = f"compute_target names partition {from_target}, and this names {from_key}"
        raise _refused(tree, PARTITION, message, "keep one of the two")
    if site.scheduler.type == "local":
        if partition is not None or from_target is not None:
            raise _refused(tree, TARGET, f"{site.name} has no partitions", f"write {site.name} alone")
        return None
    name = partition or from_target or from_key
    if name is None:
        name = site.defaults.partition or site.default_partition
        key = ("defaults", "partition") if site.defaults.partition else ("default_partition",)
        return None if name is None else Chosen(name, _site_place(site, key))
    path = PARTITION if from_target is None and from_key is not None else TARGET
    for part in name.split(",") if site.partitions else []:
        if part not in site.partitions:
            close = nearest(part, site.partitions)
            message = f"{site.name} has no partition {part}" + (f": did you mean {close}?" if close else "")
            raise _refused(tree, path, message, f"known there: {', '.join(site.partitions)}")
    return Chosen(name, place_of(tree, path))


def with_partition(tree: MapNode, chosen: Chosen) -> MapNode:
    """``tree`` with ``resources.partition`` filled in."""
    resources = tree.entries.get("resources")
    if not isinstance(resources, MapNode):
        resources = MapNode({}, chosen.place)
    if get(resources, ("partition",)) is not None and _text(tree, PARTITION) == chosen.name:
        return tree
    resources = with_entry(resources, "partition", Scalar(chosen.name, chosen.place), chosen.place)
    return with_entry(tree, "resources", resources, tree.key_place("resources"))


def site_layers(site: Site, chosen: Chosen | None) -> list[MapNode]:
    """The layers of a site: its account, its defaults, then its partition's defaults.

    On a local site there is no account to ask for. Of several partitions (``a,b``) the first one counts.
    """
    layers = []
    if site.default_account is not None and site.scheduler.type != "local":
        place = _site_place(site, ("default_account",))
        layers.append(_layer(from_python({"account": site.default_account}, place)))
    layers.append(_defaults(site, site.defaults, ("defaults",)))
    first = chosen.name.split(",")[0] if chosen is not None else ""
    if first in site.partitions:
        layers.append(_defaults(site, site.partitions[first].defaults, ("partitions", first, "defaults")))
    return layers


def _defaults(site: Site, resources: Resources, path: tuple[str, ...]) -> MapNode:
    tree = tree_of(resources, site._origins, Place(f"site {site.name}"), path)
    if site.scheduler.type == "local":
        entries = {key: node for key, node in tree.entries.items() if key not in ("partition", "account")}
        tree = MapNode(entries, tree.place, tree.keys)
    return _layer(tree)


def _layer(resources: object) -> MapNode:
    assert isinstance(resources, MapNode)
    return MapNode({"resources": resources}, resources.place, {"resources": resources.place})


def _site_place(site: Site, path: tuple[str, ...]) -> Place:
    place = site._origins.places.get(path)
    return place if isinstance(place, Place) else Place(f"site {site.name}")


def _text(tree: MapNode, path: tuple[str, ...]) -> str | None:
    node = get(tree, path)
    return node.value if isinstance(node, Scalar) and isinstance(node.value, str) else None


def _refused(tree: MapNode, path: tuple[str, ...], message: str, hint: str) -> ConfigError:
    where = str(place_of(tree, path))
    return ConfigError([Problem(message, where=where, path=".".join(path), hint=hint)])
