"""The same small network as in examples/pytorch, trained by Accelerate."""

import os
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset

accelerator = Accelerator(cpu=not torch.cuda.is_available())


def train() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2048, 8)
    targets = inputs @ torch.arange(1.0, 9.0).unsqueeze(1) + 0.01 * torch.randn(2048, 1)
    model: torch.nn.Module = torch.nn.Linear(8, 1)
    optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    batches = DataLoader(TensorDataset(inputs, targets), batch_size=32, shuffle=True)
    model, optimizer, batches = accelerator.prepare(model, optimizer, batches)

    for epoch in range(3):
        for x, y in batches:
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(x), y)
            accelerator.backward(loss)
            optimizer.step()
        mean = accelerator.reduce(loss.detach(), reduction="mean").item()
        print(
            f"{accelerator.process_index} of {accelerator.num_processes}, epoch {epoch}: loss {mean:.5f}",
            flush=True,
        )

    if accelerator.is_main_process:
        torch.save(accelerator.unwrap_model(model).state_dict(), "outputs/model.pt")
        Path("outputs/summary.txt").write_text(f"processes {accelerator.num_processes}, loss {mean:.5f}\n")
    accelerator.free_memory(model, optimizer, batches)


# What works with the group of processes is gone before the group is.
train()
accelerator.end_training()
sys.stdout.flush()
# PyTorch's threads may still hold what they have worked on, and abort an interpreter that ends.
os._exit(0)
