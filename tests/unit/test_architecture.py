"""The house rules, read off the source: layers, circles, sizes, forbidden calls, heavy imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import hpcrun

HOUSE = Path(hpcrun.__file__).parent
MAX_LINES, MAX_FUNCTION = 400, 60

# Each layer may import its own rooms and the layers it names, nothing else.
LAYERS: dict[str, tuple[set[str], set[str]]] = {
    "words": ({"errors", "quoting", "units", "states", "shipped", "globs", "names"}, set()),
    # What scripts use in their jobs, where it may lie alone.
    "job": (
        {"tracking", *(f"tracking_{name}" for name in ("lines", "place", "read", "run", "values"))},
        set(),
    ),
    "models": ({"models"}, {"words"}),
    "config": ({"config"}, {"words", "models"}),
    "parts": (
        {
            *("snapshot", "snapshot_git", "snapshot_gc", "snapshot_scan", "provenance"),
            *("environments", "launchers", "render", "render_build", "check", "probe", "functions"),
        },
        {"words", "models", "config"},
    ),
    "reach": ({"shells", "transfer", "schedulers"}, {"words", "models", "config", "parts"}),
    "measures": ({"metrics"}, {"words"}),
    "memory": ({"history"}, {"words", "measures"}),
    "reasons": ({"explain"}, {"words"}),
    "engine": (
        {"engine", "places", "targets", "sweeps"},
        {"words", "job", "models", "config", "parts", "measures", "reach", "memory", "reasons"},
    ),
    "faces": (
        {
            *(
                "environment",
                "experiment",
                "hyperdrive",
                "interactive_run",
                "run",
                "run_metrics",
                "run_results",
                "sweep_run",
                "workspace",
            ),
            *("cli", "__main__"),
        },
        {"words", "job", "models", "config", "parts", "measures", "reach", "memory", "reasons", "engine"},
    ),
}
LAYER_OF = {room: layer for layer, (rooms, _) in LAYERS.items() for room in rooms}

# git is run by these two through the Shell protocol, which they may name.
EXCEPTIONS = {
    (room, "hpcrun.shells.base")
    for room in ("snapshot", "snapshot_git", "snapshot_gc", "snapshot_scan", "provenance")
}

FORBIDDEN_CALLS = {
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.load_all",
    "yaml.full_load",
    "yaml.unsafe_load",
    "eval",
    "exec",
}
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "marshal", "shelve", "pty", "popen2"}
PROGRAM_STARTERS = ("os.exec", "os.spawn", "os.posix_spawn", "os.fork")
# A program of its own, started by path with the standard library alone: no part of hpcrun is in reach of it.
STANDALONE = {"hpcrun.launchers.farm", "hpcrun.schedulers.local_job", "hpcrun.probe.allreduce.allreduce"}
# The one that may load pickles: in the job, where they come from their owner. At home it is done by the one
# module that reads results, by way of submitit.
PICKLING = {"hpcrun.functions.runner"}
UNPICKLING = {"hpcrun.functions.results"}
HEAVY = {"pydantic", "rich", "jinja2", "submitit", "fabric", "paramiko", "tenacity", "platformdirs"}
HEAVY |= {"cloudpickle", "optuna", "numpy"}

EXPORTED = {
    "AshaPolicy",
    "BanditPolicy",
    "BayesianParameterSampling",
    "CondaDependencies",
    "Environment",
    "Experiment",
    "FunctionRunConfig",
    "GridParameterSampling",
    "HyperDriveConfig",
    "HyperDriveRun",
    "InteractiveRun",
    "MedianStoppingPolicy",
    "MpiConfiguration",
    "Notify",
    "NoTerminationPolicy",
    "Option",
    "Pipeline",
    "PrimaryMetricGoal",
    "PyTorchConfiguration",
    "RandomParameterSampling",
    "Requeue",
    "Resources",
    "Run",
    "RunConfiguration",
    "ScriptRunConfig",
    "Secret",
    "TensorflowConfiguration",
    "TruncationSelectionPolicy",
    "Workspace",
    "__version__",
    "choice",
    "load_pipeline",
    "load_run_config",
    "load_sweep",
    "lognormal",
    "loguniform",
    "normal",
    "qlognormal",
    "qloguniform",
    "qnormal",
    "quniform",
    "randint",
    "save_run_config",
    "save_sweep",
    "uniform",
}


@dataclass
class Module:
    """One source file: its dotted name, and (line, dotted name) of all that it imports."""

    name: str
    path: Path
    tree: ast.Module
    is_package: bool
    imports: list[tuple[int, str]] = field(default_factory=list)

    @property
    def room(self) -> str:
        return room_of(self.name)


def room_of(dotted: str) -> str:
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def read_house(house: Path) -> dict[str, Module]:
    """Every module under ``house``, a folder called hpcrun, with imports resolved to modules."""
    modules = {}
    for path in sorted(house.rglob("*.py")):
        parts = [house.name, *path.relative_to(house).with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        modules[name] = Module(name, path, ast.parse(path.read_text()), is_package)
    for module in modules.values():
        module.imports = [
            (line, resolve(target, modules)) for line, target in imported(module) if target.strip(".")
        ]
    return modules


def imported(module: Module) -> Iterator[tuple[int, str]]:
    """Imports at any depth, those inside functions and under TYPE_CHECKING not excepted."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = module.name.split(".")
                keep = len(up) - node.level + (1 if module.is_package else 0)
                base = ".".join([*up[:keep], *([base] if base else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and dotted(node.func).endswith(("import_module", "__import__")):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield node.lineno, first.value


def resolve(target: str, modules: dict[str, Module]) -> str:
    """``hpcrun.errors.HpcrunError`` is the module hpcrun.errors; other people's names stay."""
    if target.split(".")[0] != "hpcrun":
        return target
    name = target
    while name not in modules and "." in name:
        name = name.rpartition(".")[0]
    if name != "hpcrun":
        return name
    # A name taken from the package itself: its version is everyone's, the rest has a home.
    return "hpcrun" if target in ("hpcrun", "hpcrun.__version__") else target


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def layer_breaches(modules: dict[str, Module]) -> Iterator[str]:
    for module in modules.values():
        if module.name == "hpcrun":
            continue  # hands out public names when they are first used
        layer = LAYER_OF.get(module.room)
        if layer is None:
            yield f"{module.name}: its room is in no layer; put it into the table of this test"
            continue
        for line, target in module.imports:
            if not target.startswith("hpcrun."):
                continue
            other = LAYER_OF.get(room_of(target))
            if other not in LAYERS[layer][1] | {layer} and (module.room, target) not in EXCEPTIONS:
                yield f"{module.name}:{line}: {layer} may not import {target} ({other or 'no layer'})"


def circles(graph: dict[str, set[str]]) -> Iterator[str]:
    """Every strongly connected part of more than one node, found by walking back from each node."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for following in graph.get(todo.pop(), set()) - seen:
                seen.add(following)
                todo.append(following)
        return seen

    reach = {node: reachable(node) for node in graph}
    told: set[str] = set()
    for node in sorted(graph):
        if node not in told and node in reach[node]:
            circle = sorted(n for n in reach[node] if node in reach.get(n, set()))
            told.update(circle)
            yield f"circle: {', '.join(circle)}"


def import_circles(modules: dict[str, Module]) -> Iterator[str]:
    """Circles among modules, and among rooms."""
    files: dict[str, set[str]] = {}
    rooms: dict[str, set[str]] = {}
    for module in modules.values():
        if module.name == "hpcrun":
            continue
        own = {t for _, t in module.imports if t.startswith("hpcrun.") and t in modules}
        files[module.name] = own - {module.name}
        rooms.setdefault(module.room, set()).update({room_of(t) for t in own} - {module.room})
    yield from circles(files)
    yield from (f"rooms in a {text}" for text in circles(rooms))


def size_breaches(modules: dict[str, Module]) -> Iterator[str]:
    for module in modules.values():
        lines = len(module.path.read_text().splitlines())
        if lines > MAX_LINES:
            yield f"{module.name}: {lines} lines, more than {MAX_LINES}"
        for node in ast.walk(module.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION:
                    yield f"{module.name}:{node.lineno}: {node.name} has {length} lines, over {MAX_FUNCTION}"


def forbidden(modules: dict[str, Module]) -> Iterator[str]:
    for module in modules.values():
        for line, target in module.imports:
            top = target.split(".")[0]
            if top in FORBIDDEN_IMPORTS and module.name not in PICKLING:
                yield f"{module.name}:{line}: imports {top}"
            if target.endswith((".pickle_load", ".DelayedSubmission")) and module.name not in UNPICKLING:
                yield f"{module.name}:{line}: imports {target}, which loads pickles"
            if top == "subprocess" and module.room != "shells" and module.name not in STANDALONE:
                yield f"{module.name}:{line}: imports subprocess, which is for hpcrun/shells/ alone"
            if target in FORBIDDEN_CALLS or target.startswith(PROGRAM_STARTERS):
                yield f"{module.name}:{line}: imports {target}"
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call):
                yield from (f"{module.name}:{node.lineno}: {what}" for what in bad_call(module, node))


def bad_call(module: Module, node: ast.Call) -> Iterator[str]:
    name = dotted(node.func)
    if name in FORBIDDEN_CALLS:
        yield f"calls {name}"
    if name.startswith("asyncio.create_subprocess"):
        yield f"calls {name}"
    if name.startswith(PROGRAM_STARTERS):
        yield f"calls {name}: programs are started through hpcrun/shells/"
    for keyword in node.keywords:
        if keyword.arg == "shell" and not (
            isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        ):
            yield "passes shell="


def breaches(house: Path) -> list[str]:
    modules = read_house(house)
    found = []
    for rule in (layer_breaches, import_circles, size_breaches, forbidden):
        found += list(rule(modules))
    return found


def test_house_rules() -> None:
    assert not breaches(HOUSE), "\n" + "\n".join(breaches(HOUSE))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"models/a.py": "from hpcrun.engine import submit"}, "models may not import hpcrun.engine"),
        ({"models/a.py": "def f():\n    import hpcrun.config.b"}, "models may not import hpcrun.config.b"),
        (
            {"models/a.py": "if TYPE_CHECKING:\n    from ..config.b import C"},
            "models may not import hpcrun.config.b",
        ),
        ({"models/a.py": "from hpcrun import Run"}, "models may not import hpcrun.Run"),
        ({"models/a.py": "import_module('hpcrun.config.b')"}, "models may not import hpcrun.config.b"),
        ({"history/a.py": "from hpcrun.shells.base import Shell"}, "memory may not import hpcrun.shells"),
        ({"history/a.py": "from hpcrun.models.run import R"}, "memory may not import hpcrun.models"),
        ({"schedulers/a.py": "from hpcrun import history"}, "reach may not import hpcrun.history"),
        ({"snapshot.py": "from hpcrun.shells.local import L"}, "parts may not import hpcrun.shells.local"),
        ({"attic.py": ""}, "hpcrun.attic: its room is in no layer"),
        (
            {"models/a.py": "from .b import x", "models/b.py": "def f():\n    from hpcrun.models import a"},
            "circle: hpcrun.models.a, hpcrun.models.b",
        ),
        (
            {
                "engine/a.py": "from hpcrun.targets import t",
                "targets.py": "from hpcrun.engine.b import x",
                "engine/b.py": "x = 1",
            },
            "rooms in a circle: engine, targets",
        ),
        ({"units.py": "x = 1\n" * 401}, "401 lines"),
        ({"units.py": "def long():\n" + "    x = 1\n" * 60}, "long has 61 lines"),
        ({"units.py": "import subprocess"}, "imports subprocess"),
        ({"units.py": "from subprocess import run"}, "imports subprocess"),
        ({"units.py": "import pickle"}, "imports pickle"),
        ({"engine/a.py": "from submitit.core.utils import pickle_load"}, "which loads pickles"),
        ({"units.py": "import os\nos.system('x')"}, "calls os.system"),
        ({"units.py": "from os import popen"}, "imports os.popen"),
        ({"shells/a.py": "run('x', shell=True)"}, "passes shell="),
        ({"units.py": "yaml.load(x)"}, "calls yaml.load"),
        ({"units.py": "yaml.unsafe_load(x)"}, "calls yaml.unsafe_load"),
        ({"units.py": "eval('1')"}, "calls eval"),
        ({"units.py": "exec('1')"}, "calls exec"),
        ({"units.py": "os.execvp('x', [])"}, "calls os.execvp"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    found = breaches(build(tmp_path, files))
    assert any(expected in each for each in found), found


def test_a_good_house_has_no_breach(tmp_path: Path) -> None:
    files = {
        "snapshot.py": "from hpcrun.shells.base import Shell\nfrom hpcrun import __version__",
        "shells/local.py": "import subprocess\nfrom .base import Shell",
        "engine/a.py": "from hpcrun.history import b\nfrom hpcrun.shells import base",
        "schedulers/local_job.py": "import subprocess",
        "units.py": "# eval(1), os.system\nmodel.eval()\nre.compile('x')\n" + "x = 1\n" * 397,
    }
    assert not breaches(build(tmp_path, files))


def build(parent: Path, files: dict[str, str]) -> Path:
    house = parent / "hpcrun"
    for room in ("models", "config", "shells", "schedulers", "history", "engine"):
        (house / room).mkdir(parents=True)
        (house / room / "__init__.py").write_text("")
    for name in ("__init__.py", "shells/base.py", "shells/local.py", "config/b.py", "history/b.py"):
        (house / name).write_text("")
    for name, text in files.items():
        (house / name).write_text(text)
    return house


def loaded_by(statement: str) -> set[str]:
    """Top-level names of the modules that a fresh interpreter has after ``statement``."""
    code = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_hpcrun_loads_nothing_heavy() -> None:
    assert not loaded_by("import hpcrun") & (HEAVY | {"click", "yaml", "sqlite3"})


def test_the_command_line_starts_without_anything_heavy() -> None:
    if (HOUSE / "cli" / "main.py").exists():
        assert not loaded_by("import hpcrun.cli.main") & HEAVY


def test_exported_names() -> None:
    assert set(hpcrun.__all__) == EXPORTED
    assert len(hpcrun.__all__) == len(EXPORTED)


@pytest.mark.parametrize("name", sorted(EXPORTED))
def test_every_exported_name_is_there(name: str) -> None:
    home = hpcrun._HOMES.get(name)
    if home is None or HOUSE.parent.joinpath(*home.split(".")).with_suffix(".py").exists():
        assert getattr(hpcrun, name) is not None


def test_every_dependency_is_justified() -> None:
    project = (HOUSE.parent / "pyproject.toml").read_text()
    lists = re.findall(
        r"^(?:dependencies|dev|conda|mlflow|parquet|plot|sweeps|tensorboard|test-\w+) = \[(.*?)\]$",
        project,
        re.MULTILINE | re.DOTALL,
    )
    names = re.findall(r'"([A-Za-z0-9][A-Za-z0-9-]*)', "".join(lists))
    page = (HOUSE.parent / "docs" / "dependencies.md").read_text()
    justified = re.findall(r"^\| ([A-Za-z0-9-]+) \| .", page, re.MULTILINE)
    assert set(names) == set(justified) - {"package"}
    assert len(set(justified) - {"package"}) == len([name for name in justified if name != "package"])
