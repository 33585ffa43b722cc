"""A training of no time at all: its loss after each epoch, best for lr = 0.1 and three layers."""

import argparse
import math

from hpcrun import Run

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.01)
parser.add_argument("--layers", type=int, default=1)
parser.add_argument("--epochs", type=int, default=5)
args = parser.parse_args()

run = Run.get_context()
best = math.log10(args.lr / 0.1) ** 2 + (args.layers - 3) ** 2 / 10
for epoch in range(1, args.epochs + 1):
    run.log("loss", round(best + 1 / epoch, 4), step=epoch)
