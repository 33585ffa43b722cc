"""Data-parallel training of a small network on made-up data; the same program on one process or many."""

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=5)
options = parser.parse_args()

# Nothing to set up by hand: hpcrun gave every process its rank and the place to meet.
dist.init_process_group(os.environ.get("HPCRUN_COMMUNICATION_BACKEND", "gloo"))
rank, world = dist.get_rank(), dist.get_world_size()
if torch.cuda.is_available():
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    device = torch.device("cuda")
else:
    device = torch.device("cpu")


def train(epochs: int) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2048, 8)
    targets = inputs @ torch.arange(1.0, 9.0).unsqueeze(1) + 0.01 * torch.randn(2048, 1)
    data = TensorDataset(inputs, targets)
    sampler = DistributedSampler(data)
    model = DistributedDataParallel(torch.nn.Linear(8, 1).to(device))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for x, y in DataLoader(data, batch_size=32, sampler=sampler):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(x.to(device)), y.to(device))
            loss.backward()
            optimizer.step()
        mean = loss.detach().cpu()
        dist.all_reduce(mean)
        print(f"rank {rank} of {world}, epoch {epoch}: loss {mean.item() / world:.5f}", flush=True)

    if rank == 0:
        torch.save(model.module.state_dict(), "outputs/model.pt")
        Path("outputs/summary.txt").write_text(f"world size {world}, loss {mean.item() / world:.5f}\n")


# What works with the group lives in the function, and so is gone before the group is.
train(options.epochs)
dist.destroy_process_group()
