"""How heat spreads over a plate: the rows of a grid shared out over MPI processes, which tell their
neighbours the rows at their borders after every step.

The upper edge is kept at 1, the lower one at 0, and the sides fall from one to the other: in the end every
row has one temperature, which is known, and so the result is checked.
"""

import argparse
from array import array
from pathlib import Path

from mpi4py import MPI

parser = argparse.ArgumentParser()
parser.add_argument("--size", type=int, default=24, help="rows and columns inside the edges")
parser.add_argument("--tolerance", type=float, default=1e-6, help="the largest change of the last step")
options = parser.parse_args()

world = MPI.COMM_WORLD
rank, processes, size = world.Get_rank(), world.Get_size(), options.size
above = rank - 1 if rank > 0 else MPI.PROC_NULL
below = rank + 1 if rank < processes - 1 else MPI.PROC_NULL


def settled(row: int) -> float:
    """What a row of the whole plate comes to; rows 0 and size + 1 are its edges."""
    return 1 - row / (size + 1)


# This process has the rows first to last of the plate, and one more on either side: a neighbour's or an edge.
first = 1 + rank * size // processes
last = (rank + 1) * size // processes
width = size + 2
rows = [array("d", [0.0]) * width for _ in range(first - 1, last + 2)]
for row, cells in enumerate(rows, first - 1):
    cells[0] = cells[-1] = settled(row)
    if row in (0, size + 1):
        cells[:] = array("d", [settled(row)]) * width


def tell_neighbours() -> None:
    world.Sendrecv(rows[1], above, recvbuf=rows[-1], source=below)
    world.Sendrecv(rows[-2], below, recvbuf=rows[0], source=above)


def step() -> float:
    """Every cell becomes the mean of the four around it; the largest change among this process's."""
    changed = 0.0
    fresh = []
    for row in range(1, len(rows) - 1):
        up, here, down = rows[row - 1 : row + 2]
        middle = [(up[i] + down[i] + here[i - 1] + here[i + 1]) / 4 for i in range(1, width - 1)]
        changed = max(changed, *(abs(new - here[i]) for i, new in enumerate(middle, 1)))
        fresh.append(array("d", [here[0], *middle, here[-1]]))
    rows[1:-1] = fresh
    return changed


steps, change = 0, 1.0
while change > options.tolerance:
    for _ in range(50):  # all have to agree that it is over, and that takes time: now and then
        tell_neighbours()
        change = step()
    change = world.allreduce(change, op=MPI.MAX)
    steps += 50

mine = max(abs(cell - settled(row)) for row, cells in enumerate(rows, first - 1) for cell in cells)
error = world.allreduce(mine, op=MPI.MAX)
print(f"process {rank} of {processes} had rows {first} to {last}", flush=True)
if rank == 0:
    Path("outputs/heat.txt").write_text(
        f"{size} x {size} cells, {processes} processes, {steps} steps, off by {error:.6f} at most\n"
    )
    if error > 1e-3:
        raise SystemExit("the plate did not come to what it should")
