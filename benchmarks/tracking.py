"""What tracking costs a script: a million points, and the import."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import Row, alternate, at_most, program, python
from benchmarks.rows import folder

POINTS = 1_000_000

OURS = """\
import time
from hpcrun import Run
run = Run.get_context()
began = time.perf_counter()
for step in range(POINTS):
    run.log("loss", step * 0.1, step=step)
print(time.perf_counter() - began)
"""
THEIRS = """\
import json, os, time
fd = os.open("lines", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
began = time.perf_counter()
for step in range(POINTS):
    line = {"n": "loss", "v": step * 0.1, "s": step, "t": time.time()}
    os.write(fd, (json.dumps(line) + "\\n").encode("ascii"))
print(time.perf_counter() - began)
"""


def _seconds(code: str, where: Path) -> float:
    """What a program says that it took."""
    where.mkdir()
    argv = python("-c", code.replace("POINTS", str(POINTS)))
    done = subprocess.run(argv, cwd=where, capture_output=True, text=True, check=True, timeout=300)
    return float(done.stdout)


def logging_points() -> list[Row]:
    with folder() as place:
        pairs = [
            (_seconds(OURS, place / f"ours{n}"), _seconds(THEIRS, place / f"theirs{n}")) for n in range(3)
        ]
    ours, theirs = (min(times) for times in zip(*pairs, strict=True))
    return [
        Row(
            "`run.log`, a million points", ours, "`json.dumps` and `os.write` of the same lines", theirs, 1.1
        ),
        at_most("`run.log`, a million points (limit: 10 s)", ours, 10.0),
    ]


def importing() -> list[Row]:
    with folder() as place:
        ours, bare = alternate(
            program(*python("-c", "from hpcrun import Run; Run.get_context()"), cwd=place),
            program(*python("-c", "pass"), cwd=place),
            15,
        )
    return [at_most("`from hpcrun import Run`, above Python's own start (limit: 30 ms)", ours - bare, 0.030)]


ALL: tuple[Callable[[], list[Row]], ...] = (logging_points, importing)
