"""Pi by the midpoint rule, its intervals shared out over all MPI processes."""

import argparse
import math
from pathlib import Path

from mpi4py import MPI

parser = argparse.ArgumentParser()
parser.add_argument("--intervals", type=int, default=1_000_000)
options = parser.parse_args()

comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()
width = 1.0 / options.intervals
part = sum(4.0 / (1.0 + ((i + 0.5) * width) ** 2) for i in range(rank, options.intervals, size)) * width
pi = comm.allreduce(part, op=MPI.SUM)
hosts = comm.gather(MPI.Get_processor_name(), root=0)
print(f"process {rank} of {size} on {MPI.Get_processor_name()} added {part:.12f}", flush=True)

if rank == 0:
    off = abs(pi - math.pi)
    text = f"pi is about {pi:.12f}, off by {off:.1e}, from {size} processes on {sorted(set(hosts))}\n"
    print(text, end="")
    Path("outputs/pi.txt").write_text(text)
