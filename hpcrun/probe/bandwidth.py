"""What ``allreduce.py`` measured: read, put into the usual terms, and judged. No I/O.

Bandwidths are those of nccl-tests. The algorithm's is the size of the message over the time of one
all-reduce; the bus's is that times 2 (n - 1) / n for n processes, which is what the slowest link carried,
however many processes there are, and so can be held against the link's own figure.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hpcrun.probe.findings import Finding

By = Literal["nccl", "gloo", "mpi"]

PROGRAM = "allreduce.py"
RESULT = "bandwidth.json"
"""Below the run's outputs."""

SLOW = 0.7
"""The part of the others' bandwidth below which a node, or the way between two, is called slow."""


def program_folder() -> Path:
    """The folder that holds the program and nothing else."""
    return Path(__file__).parent / "allreduce"


@dataclass(frozen=True)
class Size:
    """One all-reduce: ``bytes`` of the message, ``seconds`` for one, bandwidths in bytes a second."""

    bytes: int
    seconds: float
    processes: int

    @property
    def algorithm(self) -> float:
        return self.bytes / self.seconds

    @property
    def bus(self) -> float:
        return self.algorithm * 2 * (self.processes - 1) / self.processes


@dataclass(frozen=True)
class Pair:
    """Two nodes that sent each other ``bandwidth`` bytes a second, all their processes together, each way."""

    a: str
    b: str
    bandwidth: float


@dataclass(frozen=True)
class Measured:
    """One sweep. ``right``: the sums were."""

    by: str
    library: str
    processor: str
    processes: int
    nodes: tuple[str, ...]
    right: bool
    sizes: tuple[Size, ...]
    pairs: tuple[Pair, ...]
    run: str = ""

    @property
    def best(self) -> Size | None:
        """The size with the highest bus bandwidth."""
        return max(self.sizes, key=lambda each: each.bus, default=None)

    def of_node(self, node: str) -> float | None:
        """The bandwidth of a node with the best of its partners; None where it had none."""
        return max((p.bandwidth for p in self.pairs if node in (p.a, p.b)), default=None)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON: bytes, nanoseconds, bytes a second, all of them whole numbers."""
        plain = {
            name: getattr(self, name) for name in ("run", "by", "library", "processor", "processes", "right")
        }
        sizes = [
            {
                "bytes": s.bytes,
                "nanoseconds": round(s.seconds * 1e9),
                "algorithm": round(s.algorithm),
                "bus": round(s.bus),
            }
            for s in self.sizes
        ]
        pairs = [{"a": p.a, "b": p.b, "bandwidth": round(p.bandwidth)} for p in self.pairs]
        return {**plain, "nodes": list(self.nodes), "sizes": sizes, "pairs": pairs}


def read_measured(text: str, run: str = "") -> Measured:
    """What the program wrote. Raises ValueError for anything else."""
    try:
        data = json.loads(text)
        processes, nodes = int(data["processes"]), [str(name)[:255] for name in data["nodes"]]
        per_node = processes / len(nodes)
        return Measured(
            by=str(data["by"])[:20],
            library=str(data["library"])[:200],
            processor=str(data["processor"])[:200],
            processes=processes,
            nodes=tuple(nodes),
            right=data["right"] is True,
            sizes=tuple(Size(int(s["bytes"]), _time(s), processes) for s in data["sizes"]),
            pairs=tuple(
                Pair(str(p["a"])[:255], str(p["b"])[:255], int(p["bytes"]) * per_node / _time(p))
                for p in data["pairs"]
            ),
            run=run,
        )
    except (KeyError, TypeError, ZeroDivisionError, ValueError) as error:
        raise ValueError(f"not a result of {PROGRAM}: {error!r}") from None


def _time(entry: Mapping[str, Any]) -> float:
    seconds = float(entry["seconds"])
    if not (seconds > 0 and math.isfinite(seconds)):
        raise ValueError("a time that is none")
    return seconds


def rate(bytes_a_second: float) -> str:
    """``1.25 GB/s``: three figures, powers of ten, as networks are sold."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if bytes_a_second >= 0.9995 * size:
            return f"{bytes_a_second / size:.3g} {unit}/s"
    return f"{bytes_a_second:.3g} B/s"


def judge_bandwidth(measured: Measured) -> Iterator[Finding]:
    """What a sweep tells of the nodes: the best figure, wrong sums, a slow node, a slow way between two."""
    if not measured.right:
        message = f"{measured.by}: the sums of an all-reduce are wrong"
        yield Finding("problem", "Bandwidth", message, next="Do not train there. Tell those who run it.")
    best = measured.best
    if best is not None:
        where = f"{measured.processes} processes on {len(measured.nodes)} nodes"
        message = f"{measured.by} ({measured.library}): {rate(best.bus)} bus bandwidth, {where}"
        yield Finding("ok", "Bandwidth", message)
    yield from _slow_nodes(measured)


def usual_bandwidth(measured: Measured) -> float | None:
    """The median of what the nodes reach; None where there are fewer than three, and none can be told from
    another."""
    values = [value for node in measured.nodes if (value := measured.of_node(node)) is not None]
    return statistics.median(values) if len(values) > 2 else None


def slow_nodes(measured: Measured) -> list[str]:
    """The nodes that are slow with every partner, the slowest first."""
    usual = usual_bandwidth(measured)
    if usual is None:
        return []
    reached = {node: value for node in measured.nodes if (value := measured.of_node(node)) is not None}
    return sorted((n for n, value in reached.items() if value < SLOW * usual), key=lambda n: reached[n])


def _slow_nodes(measured: Measured) -> Iterator[Finding]:
    usual, slow = usual_bandwidth(measured), slow_nodes(measured)
    if usual is None:
        if measured.pairs:
            message = f"{measured.by}: two nodes alone do not tell whether one of them is slow"
            yield Finding("note", "Bandwidth", message, next="Take three or more: --nodes 4.")
        return
    for node in slow:
        message = (
            f"{measured.by}: {node} is slow: {rate(measured.of_node(node) or 0.0)} with the best of its "
            f"partners, where {rate(usual)} is usual"
        )
        hint = f"A cable, a port, a busy node? Leave it out: resources: {{sbatch: {{exclude: {node}}}}}"
        yield Finding("warning", "Bandwidth", message, next=hint)
    for pair in measured.pairs:
        if pair.bandwidth < SLOW * usual and not {pair.a, pair.b} & set(slow):
            message = (
                f"{measured.by}: between {pair.a} and {pair.b} it is {rate(pair.bandwidth)}, "
                f"where {rate(usual)} is usual; with others both are well"
            )
            yield Finding("warning", "Bandwidth", message, next="A link between switches, perhaps.")
