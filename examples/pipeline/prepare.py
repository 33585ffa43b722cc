"""Points on a line, with noise: outputs/points.csv. The last fifth is kept back for the evaluation."""

import argparse
import random
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--points", type=int, default=400)
count = parser.parse_args().points

random.seed(1)
xs = [random.uniform(-1, 1) for _ in range(count)]
lines = [f"{x!r},{3 * x + 1 + random.gauss(0, 0.1)!r}" for x in xs]
Path("outputs/points.csv").write_text("\n".join(lines) + "\n")
print(f"wrote {count} points")
