# ruff: noqa: UP006, UP035 - spelled as Python 3.6 has it, which enterprise Linux 8 comes with
"""Prints what a conda prefix holds: what ``conda list --explicit --md5`` does, then what came by pip.

    pip freeze --all | python3 conda_record.py PREFIX

Run where the environment is made, by whatever Python 3 is there: the standard library alone, no part of
hpcrun. Packages that pip installed are comments, ``# pip: NAME==VERSION``, so that conda, mamba and
micromamba take the file as it is.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any, Dict, List, Set

Record = Dict[str, Any]


def records(prefix: Path) -> List[Record]:
    """Of the installed packages, each after those it depends on."""
    found: Dict[str, Record] = {}
    for path in sorted((prefix / "conda-meta").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        found[record["name"]] = record
    ordered: List[Record] = []
    seen: Set[str] = set()

    def add(name: str) -> None:
        if name in found and name not in seen:
            seen.add(name)
            for depends in found[name].get("depends", ()):
                add(depends.split()[0])
            ordered.append(found[name])

    for name in found:
        add(name)
    return ordered


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def by_conda(packages: List[Record]) -> Set[str]:
    """Names, as pip has them, of what conda's packages brought."""
    files = [file for package in packages for file in package.get("files", ())]
    infos = [re.search(r"([^/]+)\.(?:dist|egg)-info(?:/|$)", file) for file in files]
    return {normal(info.group(1).split("-")[0]) for info in infos if info}


def public(url: str) -> str:
    """A package's address without the password or token it was fetched with."""
    return re.sub(r"/t/[^/]+/", "/", re.sub(r"://[^/@]*@", "://", url), count=1)


def main() -> None:
    packages = records(Path(sys.argv[1]))
    platforms = sorted({package["subdir"] for package in packages} - {"noarch"})
    print("# This file may be used to create an environment using:")
    print("# $ conda create --name <env> --file <this file>")
    print("# platform: " + (platforms[0] if platforms else "noarch"))
    print("@EXPLICIT")
    for package in packages:
        print(public(package["url"]) + ("#" + package["md5"] if package.get("md5") else ""))
    known = by_conda(packages)
    for line in sys.stdin.read().splitlines():
        if normal(re.split(r"[ =@]", line)[0]) not in known:
            print("# pip: " + line)


if __name__ == "__main__":
    main()
