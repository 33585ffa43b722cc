"""The recipe of a conda environment that hpcrun makes.

What it is made of are plain lists in files, and all that decides the key. The script that makes it finds
micromamba, mamba or conda on the target; where there is none, py-rattler makes the prefix.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from hpcrun.environments.conda_file import EXPLICIT, CondaDefinition, of_file, of_section
from hpcrun.environments.recipe import Read, Recipe, reader
from hpcrun.models.environment import Environment
from hpcrun.models.site import Site
from hpcrun.quoting import ShellText

_FOLDER = Path(__file__).resolve().parent
_AIDS = ("conda_make.sh", "conda_record.py", "conda_rattler.py")
_OVERRIDE = "CONDA_OVERRIDE_"


def conda_recipe(environment: Environment, read: Read, site: Site) -> Recipe | None:
    """How ``environment.conda`` is made; ``read`` gives the file that it names. None for one that is there.

    Raises ConfigError.
    """
    section = environment.conda
    assert section is not None
    if not section.made:
        return None
    if section.file is None:
        made = of_section(section)
    else:
        content = reader(read, "environment.conda.file")(section.file)
        made = of_file(content, section.file, read)
    known = {
        "HPCRUN_CONDA_EXECUTABLE": site.conda.executable,
        "HPCRUN_CONDA_ROOT": site.conda.root,
        "HPCRUN_CONDA_SITE": site.name,
    }
    return Recipe(
        kind="conda",
        title=_title(made, environment),
        build=ShellText("# shellcheck source=/dev/null\n. ./conda_make.sh\nhpcrun_conda_make"),
        record=ShellText("hpcrun_conda_record"),
        files=_files(made, {**site.environment_variables, **environment.environment_variables}),
        aids={name: (_FOLDER / name).read_bytes() for name in _AIDS},
        variables={name: value for name, value in known.items() if value},
    )


def _title(made: CondaDefinition, environment: Environment) -> str:
    assert environment.conda is not None
    if environment.conda.file is not None:
        return f"conda environment of {environment.conda.file}"
    return f"conda environment of {', '.join([*made.specs, *made.pip])}"


def _files(made: CondaDefinition, variables: Mapping[str, str]) -> dict[str, bytes]:
    """One item a line; what is empty is left out."""
    # What machine to solve for: a login node without a GPU may make what a node with one is to run.
    overrides = [f"{name}={value}" for name, value in sorted(variables.items()) if name.startswith(_OVERRIDE)]
    lists = {
        "channels.txt": () if made.urls else made.channels,
        "specs.txt": made.specs,
        "explicit.txt": (EXPLICIT, *made.urls) if made.urls else (),
        "pip.txt": made.pip,
        "pip-options.txt": made.pip_options,
        "overrides.txt": overrides,
    }
    files = {name: "".join(f"{line}\n" for line in lines).encode() for name, lines in lists.items() if lines}
    if made.variables:
        # Where conda keeps what `conda env config vars` sets.
        files["state.json"] = json.dumps({"env_vars": made.variables}).encode()
    return files
