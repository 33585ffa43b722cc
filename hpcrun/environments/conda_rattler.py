"""Makes a conda prefix with py-rattler, where there is no micromamba, mamba or conda.

    python3 conda_rattler.py PREFIX CACHE [MACHINE]

Run where the environment is made, in the folder that says of what: a program of its own, for any Python that
has py-rattler, no part of hpcrun. It ends with 1, and the solver's words, where there is no solution.

MACHINE is a file that tells of another machine, for which the prefix is made, and where it will lie there:
{"subdir": "linux-64", "prefix": "/there", "virtual": [["__glibc", "2.36", "0"], …]}. Nothing of a package is
run then; those with a post-link script stand in PREFIX/conda-meta/post-link.txt.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_PACKAGE = re.compile(
    r"(?P<channel>.+)/(?P<subdir>[^/]+)/(?P<file>(?P<name>[^/]+)-(?P<version>[^-/]+)-(?P<build>[^-/]+)"
    r"(?:\.conda|\.tar\.bz2))(?:#(?P<hash>[0-9a-f]+))?"
)


def lines(name: str) -> list[str]:
    path = Path(name)
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def asked() -> tuple[list[str], list[str], dict[str, str]]:
    """Channels, specs, and the hashes by URL where packages are named by their URLs."""
    channels, specs, hashes = lines("channels.txt"), lines("specs.txt"), {}
    for line in lines("explicit.txt"):
        found = _PACKAGE.fullmatch(line)
        if line.startswith(("#", "@")):
            continue
        if found is None:
            raise ValueError(f"not the URL of a conda package: {line}")
        channels.append(found["channel"])
        specs.append(f"{found['name']} =={found['version']} {found['build']}")
        hashes[f"{found['channel']}/{found['subdir']}/{found['file']}"] = found["hash"] or ""
    return list(dict.fromkeys(channels)), specs, hashes


def unexpected(records: Sequence[Any], hashes: dict[str, str]) -> list[str]:
    """What was resolved to something else than the URLs that were asked for."""
    got = {record.url: record for record in records}
    wrong = [f"no longer there: {url}" for url in hashes if url not in got]
    wrong += [f"not asked for: {url}" for url in got if url not in hashes]
    for url in set(hashes) & set(got):
        known = {value.hex() for value in (got[url].md5, got[url].sha256) if value}
        if hashes[url] and hashes[url] not in known:
            wrong.append(f"another file than it was: {url}")
    return wrong


def virtual_packages(machine: dict[str, Any] | None) -> list[Any]:
    from rattler import BuildString, GenericVirtualPackage, PackageName, Version, VirtualPackage

    if machine is None:
        return list(VirtualPackage.detect())
    return [
        GenericVirtualPackage(PackageName(name), Version(version), BuildString(build))
        for name, version, build in machine["virtual"]
    ]


def note_scripts(prefix: Path, records: Sequence[Any]) -> None:
    """Those with a post-link script, each after what it depends on: name, version and build number."""
    from rattler import PackageRecord

    found = [
        f"{record.name.normalized} {record.version} {record.build_number}\n"
        for record in PackageRecord.sort_topologically(list(records))
        if (prefix / "bin" / f".{record.name.normalized}-post-link.sh").exists()
    ]
    if found:
        (prefix / "conda-meta" / "post-link.txt").write_text("".join(found), encoding="utf-8")


async def make(prefix: str, cache: str, machine: dict[str, Any] | None = None) -> None:
    from rattler import ChannelPriority, Gateway, Subdir, install, solve

    channels, specs, hashes = asked()
    print(f"py-rattler: solving {', '.join(specs)}", flush=True)
    records = await solve(
        sources=channels,
        specs=specs,
        gateway=Gateway(cache_dir=Path(cache) / "repodata"),
        virtual_packages=virtual_packages(machine),
        platforms=None if machine is None else [machine["subdir"], "noarch"],
        channel_priority=ChannelPriority.Disabled if hashes else ChannelPriority.Strict,
    )
    wrong = unexpected(records, hashes) if hashes else []
    if wrong:
        raise ValueError("\n".join(wrong))
    for record in records:
        print(f"  {record.name.normalized} {record.version} {record.build} from {record.channel}", flush=True)
    await install(
        records=records,
        target_prefix=prefix,
        cache_dir=Path(cache) / "packages",
        execute_link_scripts=machine is None,  # as conda, mamba and micromamba do
        show_progress=False,
        platform=None if machine is None else Subdir(machine["subdir"]),
        alternative_target_prefix=None if machine is None else machine["prefix"],
    )
    if machine is not None:
        note_scripts(Path(prefix), records)


def main() -> int:
    try:
        machine = json.loads(Path(sys.argv[3]).read_text(encoding="utf-8")) if sys.argv[3:] else None
        asyncio.run(make(sys.argv[1], sys.argv[2], machine))
    except Exception as error:  # whatever rattler raises: its words are what people need
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.path.pop(0)  # the folder this lies in, which may hold anything
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Its threads may outlive Python's end, which is a fatal error of the interpreter (seen with 0.28).
    os._exit(code)
