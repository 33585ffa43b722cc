"""``make bench``: what a user waits for, beside a peer or a limit, both in one run.

Each row alternates the two sides and takes the minimum of several rounds, so that a busy machine slows both.
Writes ``benchmarks/RESULTS.md``; with names of measurements, ``python -m benchmarks sync_large``, only their
rows in it. The rows on a cluster need root on Debian (the tests' virtual cluster).
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from benchmarks import rows, ssh, tracking, trials
from benchmarks.measure import Row

HERE = Path(__file__).resolve().parent


def main() -> int:
    wanted = sys.argv[1:]
    found: list[Row] = []
    for measure in (*rows.ALL, trials.trials, *ssh.ALL, *tracking.ALL):
        name = measure.__name__
        if wanted and name not in wanted:
            continue
        print(f"bench: {name} …", file=sys.stderr, flush=True)
        for row in _rows(measure):
            print(f"bench:   {row.line()}", file=sys.stderr, flush=True)
            found.append(row)
    results = HERE / "RESULTS.md"
    results.write_text(_updated(results.read_text(), found) if wanted else _table(found))
    return 0 if all(row.holds for row in found) else 1


def _rows(measure: Callable[[], list[Row]]) -> list[Row]:
    try:
        return measure()
    except rows.NotHere as reason:
        print(f"bench:   left out: {reason}", file=sys.stderr)
        return []


def _updated(text: str, found: list[Row]) -> str:
    """The table with these rows in the place of those of the same names, or behind the others."""
    lines = text.rstrip("\n").split("\n")
    for row in found:
        same = [n for n, line in enumerate(lines) if line.startswith(f"| {row.what} |") and row.peer in line]
        if same:
            lines[same[0]] = row.markdown()
        else:
            lines.append(row.markdown())
    return "\n".join(lines) + "\n"


def _table(found: list[Row]) -> str:
    lines = [
        "# Benchmarks",
        "",
        f"Made by `make bench` on {datetime.now(timezone.utc):%Y-%m-%d}, Python {platform.python_version()}, "
        f"{rows.cores()} cores. Ratios, each measured in one run beside a peer, minimum of several.",
        "",
        "| what a user waits for | hpcrun | beside | | ratio | goal | holds |",
        "|---|---|---|---|---|---|---|",
        *(row.markdown() for row in found),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
