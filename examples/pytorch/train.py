"""Data-parallel training of a small network on made-up data; the same program on one process or many.

It saves what it has after each epoch, and when the run is about to be ended; queued again, or told to resume
from an earlier run, it goes on from there, until its loss is what was asked for.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from hpcrun import tracking

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--loss", type=float, default=0.01, help="what the loss is to come to")
parser.add_argument("--pause", type=float, default=0, help="seconds after each epoch, for a longer training")
options = parser.parse_args()

# Nothing to set up by hand: hpcrun gave every process its rank and the place to meet.
dist.init_process_group(os.environ.get("HPCRUN_COMMUNICATION_BACKEND", "gloo"))
rank, world = dist.get_rank(), dist.get_world_size()
if torch.cuda.is_available():
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    device = torch.device("cuda")
else:
    device = torch.device("cpu")

CHECKPOINT = Path("outputs/checkpoint.pt")


def found() -> "Path | None":
    """Where to go on from: the last attempt of this run, or the run that it resumes from."""
    places = [CHECKPOINT, Path(os.environ.get("HPCRUN_RESUME_FROM", "none")) / CHECKPOINT.name]
    return next((place for place in places if place.exists()), None)


def leave(code: int) -> None:
    """End this process, as all do together: rank 0 has been writing meanwhile."""
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    # PyTorch's threads may still hold what they have worked on, and abort an interpreter that ends.
    os._exit(code)


def train(epochs: int, ending: tracking.Preemption) -> float:
    torch.manual_seed(0)
    inputs = torch.randn(2048, 8)
    targets = inputs @ torch.arange(1.0, 9.0).unsqueeze(1) + 0.01 * torch.randn(2048, 1)
    data = TensorDataset(inputs, targets)
    sampler = DistributedSampler(data)
    model = DistributedDataParallel(torch.nn.Linear(8, 1).to(device))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    first, loss = 0, float("inf")

    place = found()
    if place is not None:
        state = torch.load(place, map_location=device, weights_only=True)
        model.module.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, loss = state["epoch"] + 1, state["loss"]
        print(f"rank {rank} of {world}, goes on at epoch {first}", flush=True)

    for epoch in range(first, epochs):
        sampler.set_epoch(epoch)
        for x, y in DataLoader(data, batch_size=32, sampler=sampler):
            optimizer.zero_grad()
            error = torch.nn.functional.mse_loss(model(x.to(device)), y.to(device))
            error.backward()
            optimizer.step()
        time.sleep(options.pause)
        # Not all processes get the signal in the same epoch: if one has it, all leave together.
        seen = torch.tensor([error.item() / world, float(ending.called)], device=device)
        dist.all_reduce(seen)
        loss = seen[0].item()
        print(f"rank {rank} of {world}, epoch {epoch}: loss {loss:.5f}", flush=True)
        if rank == 0:
            state = {"model": model.module.state_dict(), "optimizer": optimizer.state_dict()}
            # Whole or not at all: the run may be ended while it is written.
            torch.save({**state, "epoch": epoch, "loss": loss}, f"{CHECKPOINT}.new")
            Path(f"{CHECKPOINT}.new").replace(CHECKPOINT)
        if seen[1] and epoch + 1 < epochs:
            leave(75)

    if rank == 0:
        torch.save(model.module.state_dict(), "outputs/model.pt")
        Path("outputs/summary.txt").write_text(
            f"world size {world}, loss {loss:.5f}, after {tracking.restart_count() + 1} attempts\n"
        )
    return loss


# What works with the group lives in the function, and so is gone before the group is.
with tracking.on_preempt() as ending:
    reached = train(options.epochs, ending)
if reached > options.loss:
    print(f"the loss is {reached:.5f}, and was to be {options.loss}", file=sys.stderr)
leave(1 if reached > options.loss else 0)
