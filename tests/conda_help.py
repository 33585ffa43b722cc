"""A real conda channel in a folder, of packages built here, and a stand-in for tools that cannot be had.

The packages are real: ``python`` is the very interpreter that the tests run with (its program, its library
and its modules, without tests, IDLE and the like), ``pip`` and ``mpi4py`` are those of the tests;
``greeting`` and ``old-friend`` are built from recipes; ``pytorch`` alone only leads to the torch of the
tests. All are built by py-rattler-build, and the channel is indexed by py-rattler.

No conda, mamba or micromamba can be installed where there is no channel to get them from.
:data:`STAND_IN` takes the part of their command line that hpcrun uses, refuses all else, and lets py-rattler
do the work.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

VERSION = "{}.{}.{}".format(*sys.version_info[:3])
SHORT = "{}.{}".format(*sys.version_info[:2])
LIBRARY = f"lib/python{SHORT}"
SITE = f"{LIBRARY}/site-packages"
PLATFORM = "linux-64"

STAND_IN = r"""
import argparse, asyncio, os, sys
from pathlib import Path
from rattler import Gateway, VirtualPackage, install, solve

name = Path(sys.argv[0]).name
if sys.argv[1:] == ["--version"]:
    print({"mamba": "2.1.1", "micromamba": "2.1.1", "conda": "conda 25.1.1"}[name])
    sys.exit()
parser = argparse.ArgumentParser(prog=name, allow_abbrev=False)
verb = parser.add_subparsers(required=True).add_parser("create", allow_abbrev=False)
for flag in ("--yes", "--override-channels", "--strict-channel-priority"):
    verb.add_argument(flag, action="store_true")
if name == "conda":
    for flag in ("--quiet", "--no-default-packages"):
        verb.add_argument(flag, action="store_true")
for option in ("--prefix", "--file"):
    verb.add_argument(option)
verb.add_argument("--channel", action="append", default=[])
verb.add_argument("specs", nargs="*")
asked = parser.parse_args()
if not asked.yes and not sys.stdin.isatty():
    sys.exit(f"{name}: nobody is there to confirm")
cache = os.environ["CONDA_PKGS_DIRS"]
if name == "micromamba":
    assert os.environ["MAMBA_ROOT_PREFIX"]
channels, specs = asked.channel, asked.specs
if asked.file:
    urls = [line.partition("#")[0] for line in Path(asked.file).read_text().splitlines()
            if not line.startswith(("#", "@"))]
    channels = [url.rsplit("/", 2)[0] for url in urls]
    specs = [" =".join(url.rsplit("/", 1)[1].removesuffix(".conda").rsplit("-", 2)[:2]).replace(" =", " ==")
             for url in urls]

async def make():
    machine = VirtualPackage.detect()
    records = await solve(channels, specs, gateway=Gateway(cache_dir=cache), virtual_packages=machine)
    await install(records, asked.prefix, cache_dir=Path(cache), show_progress=False)

try:
    asyncio.run(make())
except Exception as error:
    print(f"{name} (played by py-rattler): {error}", file=sys.stderr, flush=True)
    os._exit(1)
print("Transaction finished", flush=True)
os._exit(0)
"""

_LEFT_OUT = shutil.ignore_patterns(
    "site-packages", "test", "tests", "__pycache__", "config-*", "idlelib", "lib2to3", "tkinter", "ensurepip",
    "turtledemo", "pydoc_data", "*.a",
)  # fmt: skip


def why_not() -> str | None:
    """What keeps packages from being built here, if anything."""
    missing = [name for name in ("rattler", "rattler_build") if importlib.util.find_spec(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if not (Path(sys.base_prefix) / SITE).is_dir():
        return f"the Python of the tests, in {sys.base_prefix}, cannot be taken elsewhere"
    return None


def package(
    channel: Path,
    name: str,
    version: str,
    files: Path,
    *,
    depends: Sequence[str] = (),
    build: str = "0",
    noarch: bool = False,
) -> str:
    """Build a package of what lies in ``files``; its file's name."""
    from rattler_build import assemble_package

    folder = channel / ("noarch" if noarch else PLATFORM)
    folder.mkdir(parents=True, exist_ok=True)
    made = assemble_package(
        name,
        version,
        "noarch" if noarch else PLATFORM,
        build,
        folder,
        files_dir=files,
        depends=list(depends),
        noarch="generic" if noarch else None,
        license="MIT",
        compression_level=1,
    )
    return made.path.name


def index(channel: Path) -> None:
    """Write the channel's repodata."""
    from rattler.index import index_fs

    for subdir in ("noarch", PLATFORM):
        (channel / subdir).mkdir(parents=True, exist_ok=True)
    asyncio.run(index_fs(channel))


def tree(folder: Path, files: Mapping[str, str]) -> Path:
    """A folder of files, by path and content."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def python_tree(folder: Path) -> Path:
    """The interpreter of the tests, as a package has it: nothing of it knows where it lies."""
    base = Path(sys.base_prefix)
    (folder / "bin").mkdir(parents=True)
    shutil.copytree(base / LIBRARY, folder / LIBRARY, ignore=_LEFT_OUT, symlinks=True)
    (folder / SITE).mkdir()
    (folder / SITE / "README.txt").write_text("Packages go here.\n")
    program = (base / "bin" / f"python{SHORT}").read_bytes()
    for path in base.glob(f"lib/libpython{SHORT}.so*"):
        if not path.is_symlink():
            shutil.copy2(path, folder / "lib")
            # Where the program looks for it, seen from the program.
            here, there = f"{base}/lib".encode(), b"$ORIGIN/../lib"
            if len(there) <= len(here):
                program = program.replace(here + b"\0", there.ljust(len(here) + 1, b"\0"))
    target = folder / "bin" / f"python{SHORT}"
    target.write_bytes(program)
    target.chmod(0o755)
    for name in ("python", "python3"):
        (folder / "bin" / name).symlink_to(f"python{SHORT}")
    return folder


def installed_tree(folder: Path, distribution: str) -> Path:
    """A distribution that is installed beside the tests, as a package has it."""
    found = importlib.metadata.distribution(distribution)
    for file in found.files or ():
        source = Path(str(found.locate_file(file)))
        if ".." not in file.parts and "__pycache__" not in file.parts and source.is_file():
            target = folder / SITE / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    for info in folder.rglob("INSTALLER"):
        info.write_text("conda\n")
    return folder


RECIPE = r"""
package: {{name: greeting, version: "{version}"}}
build:
  script: |
    set -e
    mkdir -p "$PREFIX/bin" "$PREFIX/{site}" "$PREFIX/etc/conda/activate.d" "$PREFIX/etc/conda/env_vars.d"
    echo "VERSION = '{version}'" >"$PREFIX/{site}/greeting.py"
    printf '#!%s/bin/python\nimport greeting\nprint(greeting.VERSION)\n' "$PREFIX" >"$PREFIX/bin/greet"
    chmod +x "$PREFIX/bin/greet"
    echo 'export GREETING="$NEVER_SET:hello to $GREETING_TO"' >"$PREFIX/etc/conda/activate.d/greeting.sh"
    echo '{{"GREETING_TO": "the world"}}' >"$PREFIX/etc/conda/env_vars.d/greeting.json"
requirements: {{run: ["python {short}.*"]}}
about: {{license: MIT, summary: "A module, a program, and what is done when it is activated"}}
"""
OLD_FRIEND = """
package: {name: old-friend, version: "1.0"}
build: {noarch: generic, script: ['mkdir -p "$PREFIX/share"', 'echo hello >"$PREFIX/share/old-friend.txt"']}
requirements: {run: ["greeting <2"]}
about: {license: MIT, summary: "Needs the old greeting"}
"""


def build(recipe: str, channel: Path) -> None:
    """Build a package from the text of a recipe, with a script that bash runs."""
    from rattler_build import Stage0Recipe

    Stage0Recipe.from_yaml(recipe).run_build(output_dir=channel, channels=[])


def build_channel(channel: Path, scratch: Path) -> None:
    """A channel with python, pip, and small packages of several versions that need each other."""
    package(channel, "python", VERSION, python_tree(scratch / "python"))
    version = importlib.metadata.version("pip")
    package(channel, "pip", version, installed_tree(scratch / "pip", "pip"), depends=[f"python {SHORT}.*"])
    for version in ("1.0", "1.1", "2.0"):
        build(RECIPE.format(version=version, site=SITE, short=SHORT), channel)
    build(OLD_FRIEND, channel)
    build(LINKED, channel)
    if importlib.util.find_spec("mpi4py") is not None:
        files = installed_tree(scratch / "mpi4py", "mpi4py")
        version = importlib.metadata.version("mpi4py")
        package(channel, "mpi4py", version, files, depends=[f"python {SHORT}.*"])
    if importlib.util.find_spec("torch") is not None:
        # Too large to be copied: a line that Python reads at its start leads to what the tests have.
        folder = Path(importlib.metadata.distribution("torch").locate_file(""))  # type: ignore[arg-type]
        files = tree(scratch / "pytorch", {f"{SITE}/pytorch-here.pth": f"{folder}\n"})
        package(channel, "pytorch", "0", files, depends=[f"python {SHORT}.*"])
    index(channel)


LINKED = r"""
package: {name: linked, version: "1.5"}
build:
  noarch: generic
  script: |
    mkdir -p "$PREFIX/bin" "$PREFIX/share"
    echo 'It has something done where it is installed.' >"$PREFIX/share/linked.md"
    cd "$PREFIX/bin"
    echo 'echo "$PREFIX $PKG_NAME $PKG_BUILDNUM" >"$PREFIX/share/linked.txt"' >.linked-post-link.sh
about: {license: MIT, summary: "Has a post-link script"}
"""

OLDER = """
package: {name: greeting, version: "0.1"}
build: {noarch: generic, script: ['mkdir -p "$PREFIX/share"', 'echo hi >"$PREFIX/share/hi.txt"']}
about: {license: MIT, summary: "Older than all others"}
"""


def only(recipe: str, channel: Path) -> None:
    """A channel of one package, in a process of its own."""
    _apart("--only", recipe, str(channel))


def channel(folder: Path) -> str:
    """Build the channel in a process of its own, as its URL; see :func:`build_channel`."""
    _apart(str(folder / "channel"), str(folder / "scratch"))
    return (folder / "channel").as_uri()


def _apart(*words: str) -> None:
    argv = [sys.executable, "-m", "tests.conda_help", *words]
    here = Path(__file__).resolve().parent.parent
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, cwd=here)
    assert done.returncode == 0, done.stderr


def stand_in(folder: Path, name: str) -> Path:
    """A program called ``name`` that does as conda, mamba or micromamba would, with py-rattler."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{STAND_IN}")
    path.chmod(0o755)
    return path


if __name__ == "__main__":
    if sys.argv[1] == "--only":
        build(sys.argv[2], Path(sys.argv[3]))
        index(Path(sys.argv[3]))
    else:
        build_channel(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    # rattler's threads may outlive Python's end, which is a fatal error of the interpreter (seen with 0.28).
    os._exit(0)
