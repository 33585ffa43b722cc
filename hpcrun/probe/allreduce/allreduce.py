"""How fast the processes of a run reach each other: all-reduces of growing size, then nodes in pairs.

A program of its own, for Python 3.8 and newer, with torch or mpi4py and nothing else; hpcrun starts it as it
would start a training script. Rank 0 writes ``outputs/bandwidth.json``:

    sizes   bytes of the message, and the seconds of one all-reduce: the best of three trials, in each of
            which the slowest rank counts, as it does in training
    pairs   for nodes a and b: bytes that every process of a sends to one of b, while as many come back, and
            the seconds this takes
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import socket
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Union

TRIALS = 3
LONGEST = 1.0
"""Seconds that the trials of one size should take together."""
ROUNDS = 8
"""Partners that each node is measured with, at most."""


class Torch:
    """torch.distributed; NCCL moves the GPUs' memory, Gloo the host's."""

    def __init__(self, backend: str, most: int) -> None:
        import torch
        import torch.distributed as dist

        self.torch, self.dist = torch, dist
        self.rank, self.world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.gpu = backend == "nccl"
        if self.gpu:
            # One that sees a single GPU was given it by the scheduler.
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        self.device = torch.device("cuda" if self.gpu else "cpu")
        dist.init_process_group(backend)
        self.data = torch.ones(most // 4, dtype=torch.float32, device=self.device)
        self.other = torch.empty_like(self.data)
        nccl: Any = torch.cuda.nccl
        made_of = "NCCL " + ".".join(map(str, nccl.version())) if self.gpu else "Gloo"
        self.library = f"torch {torch.__version__}, {made_of}"
        self.processor = torch.cuda.get_device_name() if self.gpu else "CPU"

    def allreduce(self, count: int) -> None:
        self.dist.all_reduce(self.data[:count])

    def exchange(self, peer: int, count: int) -> None:
        operation = self.dist.P2POp
        pair = [
            operation(self.dist.isend, self.data[:count], peer),
            operation(self.dist.irecv, self.other[:count], peer),
        ]
        for request in self.dist.batch_isend_irecv(pair):
            request.wait()

    def finish(self) -> None:
        if self.gpu:
            self.torch.cuda.synchronize()

    def barrier(self) -> None:
        self.dist.barrier()
        self.finish()

    def gather(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.world
        self.dist.all_gather_object(values, value)
        return values

    def sum_is_right(self) -> bool:
        self.data.fill_(1.0)
        count = min(1024, len(self.data))
        self.allreduce(count)
        self.finish()
        return bool((self.data[:count] == self.world).all())

    def reset(self) -> None:
        self.data.zero_()

    def close(self) -> None:
        self.dist.destroy_process_group()


class Mpi:
    """mpi4py, on the host's memory."""

    def __init__(self, most: int) -> None:
        from mpi4py import MPI

        self.mpi, self.world_comm = MPI, MPI.COMM_WORLD
        self.rank, self.world = self.world_comm.Get_rank(), self.world_comm.Get_size()
        self.data = array("f", [1.0]) * (most // 4)
        self.other = array("f", [0.0]) * (most // 4)
        self.library = MPI.Get_library_version().split("\n")[0].split(",")[0].strip("\0 ")
        self.processor = "CPU"

    def _part(self, data: array[float], count: int) -> list[Any]:
        return [memoryview(data)[:count], self.mpi.FLOAT]

    def allreduce(self, count: int) -> None:
        self.world_comm.Allreduce(self._part(self.data, count), self._part(self.other, count))

    def exchange(self, peer: int, count: int) -> None:
        self.world_comm.Sendrecv(
            self._part(self.data, count), peer, recvbuf=self._part(self.other, count), source=peer
        )

    def finish(self) -> None:
        pass

    def barrier(self) -> None:
        self.world_comm.Barrier()

    def gather(self, value: Any) -> list[Any]:
        return list(self.world_comm.allgather(value))

    def sum_is_right(self) -> bool:
        count = min(1024, len(self.data))
        self.allreduce(count)
        return all(value == self.world for value in self.other[:count])

    def reset(self) -> None:
        pass

    def close(self) -> None:
        pass


Group = Union[Torch, Mpi]  # noqa: UP007 (Python 3.8 and 3.9)


def timed(group: Group, action: Callable[[], None], times: int) -> float:
    """Seconds that one of so many actions takes in this process, all beginning together."""
    group.barrier()
    began = time.perf_counter()
    for _ in range(times):
        action()
    group.finish()
    return (time.perf_counter() - began) / times


def sweep(group: Group, sizes: list[int]) -> list[dict[str, Any]]:
    """The all-reduces. What was measured decides how often; all ranks see the same numbers."""
    found: list[dict[str, Any]] = []
    for size in sizes:
        count = size // 4

        def action(count: int = count) -> None:
            group.allreduce(count)

        group.reset()
        first = max(group.gather(timed(group, action, 1)))  # also what sets the way up
        first = min(first, max(group.gather(timed(group, action, 1))))
        times = max(1, min(200, int(LONGEST / TRIALS / max(first, 1e-6))))
        trials = [max(group.gather(timed(group, action, times))) for _ in range(TRIALS)]
        found.append({"bytes": count * 4, "seconds": min(trials), "times": times})
    return found


def rounds(number: int) -> Iterator[list[tuple[int, int]]]:
    """Pairs of ``number`` things, so that in each round each has one partner (one is left over if odd), and
    no two meet twice: the circle method."""
    ring: list[int | None] = [*range(number), *([None] if number % 2 else [])]
    for _ in range(min(len(ring) - 1, ROUNDS)):
        half = len(ring) // 2
        facing = zip(ring[:half], reversed(ring[half:]))  # noqa: B905 (Python 3.8 and 3.9)
        yield [(a, b) for a, b in facing if a is not None and b is not None]
        ring.insert(1, ring.pop())


def pairwise(group: Group, places: list[tuple[str, int]], size: int) -> list[dict[str, Any]]:
    """Nodes in pairs, all pairs of a round at the same time; ``places`` is (node, process of it) by rank."""
    names = sorted({node for node, _ in places})
    rank_at = {place: rank for rank, place in enumerate(places)}
    node, local = places[group.rank]
    count = size // 4
    found: list[dict[str, Any]] = []
    group.reset()
    for pairs in rounds(len(names)):
        partner: dict[str, str] = {}
        for a, b in pairs:
            partner[names[a]], partner[names[b]] = names[b], names[a]
        peer = rank_at.get((partner.get(node, ""), local))

        def action(peer: int | None = peer) -> None:
            if peer is not None:
                group.exchange(peer, count)

        warm = max(group.gather(timed(group, action, 1)))
        warm = min(warm, max(group.gather(timed(group, action, 1))))
        times = max(1, min(50, int(LONGEST / TRIALS / max(warm, 1e-6))))
        trials = [group.gather(timed(group, action, times)) for _ in range(TRIALS)]
        best = [min(each) for each in zip(*trials)]  # noqa: B905
        for a, b in pairs:
            here = [rank for rank, (name, _) in enumerate(places) if name in (names[a], names[b])]
            found.append(
                {"a": names[a], "b": names[b], "bytes": count * 4, "seconds": max(best[r] for r in here)}
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--by", choices=("nccl", "gloo", "mpi"), required=True)
    parser.add_argument("--most", type=int, required=True, help="bytes of the largest message")
    options = parser.parse_args()
    faulthandler.enable()  # a library that crashes is to leave a word of where

    most = max(1024, options.most)
    group: Group = Mpi(most) if options.by == "mpi" else Torch(options.by, most)
    name = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    names = group.gather(name)
    # The how manieth process of its node each rank is.
    places = [(node, names[:rank].count(node)) for rank, node in enumerate(names)]
    right = all(group.gather(group.sum_is_right()))
    sizes = [most >> shift for shift in range(0, 32, 2) if most >> shift >= 1024][::-1]
    swept = sweep(group, sizes)
    pairs = pairwise(group, places, most) if len(set(names)) > 1 else []
    if group.rank == 0:
        report = {
            "version": 1,
            "by": options.by,
            "library": group.library,
            "processor": group.processor,
            "processes": group.world,
            "nodes": sorted(set(names)),
            "right": right,
            "sizes": swept,
            "pairs": pairs,
        }
        new = Path("outputs/bandwidth.new")
        new.write_text(json.dumps(report))
        new.replace("outputs/bandwidth.json")
        for each in swept:
            print("{bytes:>12} bytes  {seconds:.6f} s".format(**each), flush=True)
    group.barrier()
    group.close()


if __name__ == "__main__":
    main()
