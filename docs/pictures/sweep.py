"""Draws docs/pictures/sweep.png: the picture of a sweep that is run for it, on this machine.

``python docs/pictures/sweep.py``, with hpcrun and its extra ``plot`` installed: about a minute.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hpcrun import (
    BanditPolicy,
    Experiment,
    HyperDriveConfig,
    HyperDriveRun,
    Option,
    PrimaryMetricGoal,
    RandomParameterSampling,
    ScriptRunConfig,
    Workspace,
    choice,
    loguniform,
    randint,
    uniform,
)

TRAIN = """\
import argparse
import math

from hpcrun import Run

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--layers", type=int)
parser.add_argument("--batch", type=int)
parser.add_argument("--optimizer")
parser.add_argument("--momentum", type=float, default=0.0)
parser.add_argument("--epochs", type=int)
args = parser.parse_args()
if args.layers == 7 and args.batch == 128:
    raise MemoryError("too large for this machine")

run = Run.get_context()
worse = (math.log10(args.lr) + 2.4) ** 2 / 8 + (args.layers - 4) ** 2 / 60 + args.batch / 2000
worse += abs(args.momentum - 0.9) / 4 if args.optimizer == "sgd" else 0.03
for epoch in range(args.epochs):
    run.log("val_acc", 0.97 - min(0.8, worse) - 0.3 / (1 + epoch), step=epoch)
"""


def small(picture: Path) -> None:
    """Write a picture again with 64 colours, a third of its size."""
    from PIL import Image

    Image.open(picture).convert("RGB").quantize(64).save(picture, optimize=True)


def main() -> None:
    """Run the sweep, and draw it."""
    here = Path(__file__).resolve().parent
    with tempfile.TemporaryDirectory() as folder, Workspace(folder) as workspace:
        (Path(folder) / "train.py").write_text(TRAIN)
        sweep = HyperDriveConfig(
            run_config=ScriptRunConfig(folder, "train.py", ["--epochs", 20]),
            hyperparameter_sampling=RandomParameterSampling(
                {
                    "lr": loguniform(-10, -1),
                    "layers": randint(8),
                    "batch": choice(32, 64, 128),
                    "optimizer": choice("adam", Option("sgd", {"momentum": uniform(0.5, 0.99)})),
                },
                seed=4,
                rule="sobol",
            ),
            policy=BanditPolicy(slack_amount=0.5, delay_evaluation=5),
            primary_metric_name="val_acc",
            primary_metric_goal=PrimaryMetricGoal.MAXIMIZE,
            max_total_runs=80,
            max_concurrent_runs=os.cpu_count(),
        )
        run = Experiment(workspace, "cifar").submit(sweep)
        assert isinstance(run, HyperDriveRun)
        run.wait_for_completion()
        small(run.plot(here / "sweep.png"))


if __name__ == "__main__":
    main()
