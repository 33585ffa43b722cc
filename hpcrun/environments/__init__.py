"""The software a run sees: one small file a kind, behind one small protocol.

To add a kind: a section in :mod:`hpcrun.models.environment`, a file here, a line in ``_KINDS``; and a line in
``_RECIPES`` if hpcrun makes environments of that kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hpcrun.environments.apptainer import ApptainerEnvironment
from hpcrun.environments.base import EnvironmentKind, Setting
from hpcrun.environments.conda import CondaEnvironment
from hpcrun.environments.conda_recipe import conda_recipe
from hpcrun.environments.images import container_recipe
from hpcrun.environments.recipe import Read, Recipe
from hpcrun.environments.system import SystemEnvironment
from hpcrun.environments.venv import VenvEnvironment, venv_recipe
from hpcrun.models.environment import Environment
from hpcrun.models.site import Site
from hpcrun.quoting import ShellText, argv_text, export

_KINDS: dict[str, type[EnvironmentKind]] = {
    "apptainer": ApptainerEnvironment,
    "conda": CondaEnvironment,
    "system": SystemEnvironment,
    "venv": VenvEnvironment,
}

_RECIPES: dict[str, Callable[[Environment, Read, Site], Recipe | None]] = {
    "apptainer": container_recipe,
    "conda": conda_recipe,
    "venv": venv_recipe,
}
"""What makes environments, by kind; a recipe is None where the environment is there already."""


def environment_for(environment: Environment, setting: Setting) -> EnvironmentKind:
    """The part that prepares ``environment`` in the job script."""
    return _KINDS[environment.kind](environment, setting)


def recipe_of(environment: Environment, read: Read, site: Site) -> Recipe | None:
    """What makes ``environment`` on a site; None for one that is there, or that nobody needs to make.

    ``read`` gives what a file in the source directory (or elsewhere, by its absolute path) holds. Modules and
    setup lines go before, as they do in a run, and so are part of what it is. Raises ConfigError.
    """
    kind = _RECIPES.get(environment.kind)
    recipe = None if kind is None else kind(environment, read, site)
    if recipe is None:
        return None
    before = [export(name, value) for name, value in environment.environment_variables.items()]
    modules = [*site.modules, *environment.modules]
    if modules:
        # Modules' own functions fail here and there, and mean nothing by it.
        before.append(ShellText("set +e\nhpcrun_load_modules {}\nset -e", argv_text(modules)))
    for lines in (site.setup, environment.setup):
        if lines:
            source = ShellText.trusted(lines.replace("\r\n", "\n").rstrip("\n"))
            before.append(ShellText("set +eu\n{}\nset -eu", source))
    build = ShellText.join("\n", [*before, recipe.build])
    return replace(recipe, build=build)


__all__ = ["EnvironmentKind", "Recipe", "Setting", "environment_for", "recipe_of"]
