"""A small SIF image for container tests: BusyBox, Bash and a Python 3.

Made from files of the root file system, so it needs nothing from the network.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path

from tests.cluster.procs import call
from tests.cluster.rootfs import Say, build_once, in_namespaces, say

_RECIPE = "1"
NAME = "test.sif"

_FOLDERS = ("dev", "proc", "sys", "run", "home", "root", "usr/bin", "usr/sbin", "var/tmp", "tmp", "etc")
_LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}

# ROOT FOLDER: build FOLDER/test.sif from FOLDER/tree with the root's own Apptainer.
# Everything but FOLDER is read-only or forgotten.
_BUILD = f"""
set -eu
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
mount --bind "$2" "$1/srv"
cd "$1"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs tmp tmp
mount -t tmpfs tmp var/tmp
pivot_root . mnt
umount -l /mnt
export HOME=/tmp
exec apptainer --silent build /srv/{NAME} /srv/tree
"""


def images(root: Path, say: Say = say) -> Path:
    """The folder with test.sif made from a root; empty when the root has no Apptainer."""
    key = hashlib.sha256(f"{_RECIPE} {root.name}".encode()).hexdigest()[:12]
    target = root.parent / f"images-{key}"
    return build_once(target, lambda into: _build(root, into, say))


def _build(root: Path, into: Path, say: Say) -> None:
    into.mkdir()
    if not (root / "usr/bin/apptainer").exists():
        return
    started = time.monotonic()
    say("building the small container image (once)")
    tree = into / "tree"
    _fill(root, tree)
    in_namespaces(["sh", "-c", _BUILD, "build", str(root), str(into)], timeout=300)
    shutil.rmtree(tree)
    say(f"container image ready after {time.monotonic() - started:.0f} s")


def _fill(root: Path, tree: Path) -> None:
    for name in _FOLDERS:
        (tree / name).mkdir(parents=True)
    for name, to in _LINKS.items():
        (tree / name).symlink_to(to)
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\n")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost\n")
    for name in ("tmp", "var/tmp"):
        (tree / name).chmod(0o1777)
    python = (root / "usr/bin/python3").resolve().name
    library = Path("usr/lib", python)
    shutil.copytree(root / library, tree / library, symlinks=True,
                    ignore=shutil.ignore_patterns("__pycache__", "test", "ensurepip"))  # fmt: skip
    for program in (python, "busybox", "bash"):
        shutil.copy2(root / "usr/bin" / program, tree / "usr/bin" / program)
    (tree / "usr/bin/python3").symlink_to(python)
    for applet in call(["chroot", str(root), "busybox", "--list"]).stdout.split():
        if not (tree / "usr/bin" / applet).exists():
            (tree / "usr/bin" / applet).symlink_to("busybox")
    extensions = sorted((tree / library / "lib-dynload").glob("*.so"))
    programs = [f"/usr/bin/{python}", "/usr/bin/bash", *(f"/{e.relative_to(tree)}" for e in extensions)]
    for needed in _libraries(root, programs):
        (tree / needed).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / needed, tree / needed)


def _libraries(root: Path, programs: list[str]) -> set[Path]:
    """Shared libraries that programs of the root need, under their /usr names."""
    told = call(["chroot", str(root), "ldd", *programs], timeout=60).stdout
    found = (word for line in told.splitlines() for word in line.split() if word.startswith("/"))
    named = {name for name in found if not name.endswith(":")}
    # ldd says /lib/...; /lib is a link to /usr/lib, in the root and in the image alike.
    return {Path("usr", name.lstrip("/").removeprefix("usr/")) for name in named}
