"""Modules that Python did not find, and where to add them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hpcrun.explain.facts import Explanation, Facts
from hpcrun.explain.tracebacks import Traceback, own_frame, place, read_traceback, shown

# Modules whose distribution has another name.
DISTRIBUTIONS = {
    "attr": "attrs",
    "Bio": "biopython",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "Crypto": "pycryptodome",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "PyMuPDF",
    "git": "GitPython",
    "google.protobuf": "protobuf",
    "hydra": "hydra-core",
    "jwt": "PyJWT",
    "magic": "python-magic",
    "MySQLdb": "mysqlclient",
    "OpenSSL": "pyOpenSSL",
    "PIL": "pillow",
    "pkg_resources": "setuptools",
    "psycopg2": "psycopg2-binary",
    "pytorch_lightning": "pytorch-lightning",
    "ruamel": "ruamel.yaml",
    "sentence_transformers": "sentence-transformers",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "skopt": "scikit-optimize",
    "tensorboardX": "tensorboardX",
    "umap": "umap-learn",
    "yaml": "PyYAML",
    "zmq": "pyzmq",
}

_MISSING = re.compile(r"No module named '?([A-Za-z_][\w.]*)'?")
_SPEC = re.compile(r"No module named ([A-Za-z_][\w.]*)\s*\Z", re.MULTILINE)
_NAME = re.compile(r"cannot import name '([^']+)' from (?:partially initialized module )?'([^']+)'")
_LIBRARY = re.compile(r"((?:lib)?[\w.+-]+\.so[\w.]*): cannot open shared object file")


def distribution(module: str) -> str:
    """What to ask pip for, for a module."""
    top = module.partition(".")[0]
    return DISTRIBUTIONS.get(module) or DISTRIBUTIONS.get(top) or top.replace("_", "-")


def import_rule(facts: Facts) -> Explanation | None:
    """ModuleNotFoundError and the rest of ImportError."""
    log = facts.first_log
    found = read_traceback(log.text)
    if found is None:
        return _by_name(facts, log.text)
    if found.name not in ("ModuleNotFoundError", "ImportError", "OSError"):
        return None
    library = _LIBRARY.search(found.message)
    if library is not None:
        return _library(facts, found, library.group(1))
    missing = _MISSING.search(found.message)
    if missing is not None and found.name != "OSError":
        return _missing(facts, missing.group(1), shown(facts, found), _importer(facts, found))
    name = _NAME.search(found.message)
    if name is not None:
        return _other_version(facts, found, name.group(1), name.group(2))
    return None


def _by_name(facts: Facts, text: str) -> Explanation | None:
    """``python -m missing``: one line and no traceback."""
    match = _SPEC.search(text[-2000:])
    if match is None or facts.exit_code != 1:
        return None
    return _missing(facts, match.group(1), [match.group(0).strip()], "")


def _importer(facts: Facts, found: Traceback) -> str:
    own = own_frame(facts, found)
    return "" if own is None else f", which {place(own)} asks for"


def _missing(facts: Facts, module: str, evidence: list[str], importer: str) -> Explanation:
    here = _in_code(facts, module)
    if here is not None:
        folder = here.rpartition("/")[0]
        return Explanation(
            "MissingModule",
            f"Python found no module {module}{importer}. The run's code has it as {here},"
            " in a folder where Python does not look.",
            evidence,
            [f"Have Python look there, in run.yaml: environment_variables: {{PYTHONPATH: {folder}}}"],
        )
    package = distribution(module)
    called = "" if package == module else f" It comes with the package {package}."
    return Explanation(
        "MissingModule",
        f"Python found no module {module}{importer}.{called}",
        evidence,
        [
            *where_to_add(facts, package),
            f"If {module.partition('.')[0]} is code of yours: see that it lies in source_directory and that"
            " no .hpcrunignore, .amlignore or .gitignore leaves it out.",
        ],
    )


def _in_code(facts: Facts, module: str) -> str | None:
    """Where in the run's code a module of that name lies, not at the top."""
    name = module.partition(".")[0]
    for path in facts.modules:
        if "/" in path and (path.endswith((f"/{name}.py", f"/{name}/__init__.py"))):
            return path.removesuffix("/__init__.py")
    return None


def where_to_add(facts: Facts, package: str) -> list[str]:
    """How to add a package to the run's kind of environment."""
    environment = facts.section("environment")
    found = [_add(environment, package)]
    recipe = _recipe(facts, environment)
    if recipe:
        found.append(f"And write {package} into {recipe}, so that an environment made of it has it.")
    if environment.get("modules"):
        found.append(f"Or name a module that has it under environment.modules: module spider {package}")
    return found


def _recipe(facts: Facts, environment: Mapping[str, Any]) -> str:
    """The file in the run's code that describes the environment, if there is one of its kind."""
    kinds = (".def",) if environment.get("apptainer") else (".txt", ".toml")
    if environment.get("conda"):
        kinds = (".yml", ".yaml", *kinds)
    return next((name for kind in kinds for name in facts.recipes if name.endswith(kind)), "")


def _add(environment: Mapping[str, Any], package: str) -> str:
    apptainer, conda = environment.get("apptainer"), environment.get("conda")
    if isinstance(apptainer, Mapping):
        return (
            f"Images do not change: add 'pip install {package}' to %post of the definition that"
            f" {apptainer.get('image', 'the image')} was built from, and build it anew."
        )
    if isinstance(conda, Mapping) and conda.get("file"):
        return f"Add it to {conda['file']}: the environment is made anew for the next run."
    if isinstance(conda, Mapping) and not (conda.get("name") or conda.get("prefix")):
        return "Add it to environment.conda.conda_packages or pip_packages: it is made anew for the next run."
    if isinstance(conda, Mapping):
        which = f"-n {conda['name']}" if conda.get("name") else f"-p {conda.get('prefix', 'PREFIX')}"
        return f"Add it to the run's conda environment: conda run {which} python -m pip install {package}"
    python = environment.get("python")
    path = python.get("interpreter_path") if isinstance(python, Mapping) else None
    if path:
        return f"Add it to the run's Python: {path} -m pip install {package}"
    return f"Add it to the environment that you submit from: python -m pip install {package}"


def _library(facts: Facts, found: Traceback, library: str) -> Explanation:
    return Explanation(
        "MissingLibrary",
        f"The shared library {library} was not found{_importer(facts, found)}.",
        shown(facts, found),
        [
            "Load the module that has it, in run.yaml: environment: {modules: […]}; find it by module spider",
            "Or install a build of the package that brings its own libraries.",
        ],
    )


def _other_version(facts: Facts, found: Traceback, name: str, module: str) -> Explanation:
    package = distribution(module)
    return Explanation(
        "ImportError",
        f"The module {module} is there, and has no {name}{_importer(facts, found)}: most likely it is of"
        " another version than the code was written for, or a file of yours has the same name.",
        shown(facts, found),
        where_to_add(facts, f"'{package}==VERSION'"),
    )
