"""Which sites there are, and where. Listing their names needs neither pydantic nor a valid file."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hpcrun.config.tree import MapNode, Place, Scalar, get, walk
from hpcrun.config.tree import with_entry as _with_entry
from hpcrun.errors import ConfigError, HpcrunError, NotFoundError, Problem
from hpcrun.shipped import shipped_folder

if TYPE_CHECKING:
    from hpcrun.models.site import Site

FOLDER = "site_configs"
SUFFIXES = (".yml", ".yaml")


@dataclass(frozen=True)
class SiteSource:
    """A site's file: ``layer`` says whose it is."""

    name: str
    path: Path
    layer: Literal["shipped", "user", "workspace"]


@dataclass(frozen=True)
class SiteListing:
    """One line of a list of sites; ``problem`` is the first thing wrong with a broken file."""

    source: SiteSource
    site: Site | None
    problem: Problem | None


def split_target(target: str) -> tuple[str, str | None]:
    """``snellius:gpu`` -> ``("snellius", "gpu")``; without a partition, None."""
    site, _, partition = target.partition(":")
    return site, partition or None


def user_folder(environ: Mapping[str, str] | None = None) -> Path:
    """The user's own configuration folder; ``HPCRUN_CONFIG_HOME`` names another."""
    home = (os.environ if environ is None else environ).get("HPCRUN_CONFIG_HOME")
    if home:
        return Path(home).expanduser()
    from platformdirs import user_config_path

    return user_config_path("hpcrun")


def find_sites(workspace: Path | None) -> dict[str, SiteSource]:
    """All sites by name. ``workspace`` is the folder that holds ``.hpcrun``.

    Shipped ones first, then the user's, then the workspace's (``site_configs/`` beside ``.hpcrun``, then
    inside it); of files with the same name the later one counts, whole.
    """
    folders: list[tuple[Path, Literal["shipped", "user", "workspace"]]] = [
        (shipped_folder(FOLDER), "shipped"),
        (user_folder() / FOLDER, "user"),
    ]
    if workspace is not None:
        folders.append((workspace / FOLDER, "workspace"))
        folders.append((workspace / ".hpcrun" / FOLDER, "workspace"))
    found: dict[str, SiteSource] = {}
    for folder, layer in folders:
        for path in _files(folder):
            found[path.stem] = SiteSource(path.stem, path, layer)
    return dict(sorted(found.items()))


def _files(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    hidden = (path for path in entries if not path.name.startswith("."))
    return sorted((p for p in hidden if p.suffix in SUFFIXES), key=lambda p: SUFFIXES.index(p.suffix))


def find_site(name: str, workspace: Path | None) -> SiteSource:
    """Where the site ``name`` is described. Raises NotFoundError, naming those there are."""
    known = find_sites(workspace)
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    guess = f": did you mean {close[0]}?" if close else ""
    place = user_folder() / FOLDER / f"{name}.yaml"
    hint = f"known sites: {', '.join(known)}; describe another in {place}"
    raise NotFoundError(f"no site is called {name}{guess}", hint=hint)


def load_site(name: str, workspace: Path | None) -> Site:
    """The site ``name`` (no ``:PARTITION``). Raises NotFoundError, or ConfigError with all problems."""
    return read_site(find_site(name, workspace).path)


def read_site(path: Path) -> Site:
    """The site that a file describes; its name is the file's. Raises ConfigError, NotFoundError."""
    from hpcrun.config.dump import explicit
    from hpcrun.config.validate import build
    from hpcrun.config.yamltree import read_file
    from hpcrun.models.base import Origins
    from hpcrun.models.site import Site

    tree, problems = read_file(path, _shown(path))
    tree, wrong = _named(tree, path.stem)
    site = build(Site, tree, known=[*problems, *wrong])
    object.__setattr__(
        site, "_origins", Origins({where: node.place for where, node in walk(tree)}, explicit(site))
    )
    return site


def _named(tree: MapNode, stem: str) -> tuple[MapNode, list[Problem]]:
    node = get(tree, ("name",))
    place = node.place if node is not None else Place(tree.place.source, 1, 1)
    said = node.value if isinstance(node, Scalar) else None
    problems = []
    if node is not None and said is not None and str(said) != stem:
        problems.append(
            Problem(
                f"the file is called {stem}, and this says {said}",
                where=str(place),
                path="name",
                hint="leave name out, or rename the file",
            )
        )
    named = Scalar(stem, Place(tree.place.source))
    return _with_entry(tree, "name", named, tree.key_place("name")), problems


def _shown(path: Path) -> str:
    """The path as seen from the working directory, where it lies below."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def list_sites(workspace: Path | None) -> list[SiteListing]:
    """Every site, the broken ones with their first problem."""
    return [_listing(source) for source in find_sites(workspace).values()]


def _listing(source: SiteSource) -> SiteListing:
    try:
        return SiteListing(source, read_site(source.path), None)
    except ConfigError as error:
        return SiteListing(source, None, error.problems[0])
    except HpcrunError as error:
        return SiteListing(source, None, Problem(error.message, where=str(source.path)))
