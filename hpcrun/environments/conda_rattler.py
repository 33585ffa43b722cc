"""Makes a conda prefix with py-rattler, where there is no micromamba, mamba or conda.

    python3 conda_rattler.py PREFIX CACHE

Run where the environment is made, in the folder that says of what: a program of its own, for any Python that
has py-rattler, no part of hpcrun. It ends with 1, and the solver's words, where there is no solution.
"""

from __future__ import annotations

import asyncio
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


async def make(prefix: str, cache: str) -> None:
    from rattler import ChannelPriority, Gateway, VirtualPackage, install, solve

    channels, specs, hashes = asked()
    print(f"py-rattler: solving {', '.join(specs)}", flush=True)
    records = await solve(
        sources=channels,
        specs=specs,
        gateway=Gateway(cache_dir=Path(cache) / "repodata"),
        virtual_packages=VirtualPackage.detect(),
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
        execute_link_scripts=True,  # as conda, mamba and micromamba do
        show_progress=False,
    )


def main() -> int:
    try:
        asyncio.run(make(*sys.argv[1:3]))
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
