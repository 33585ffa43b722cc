"""The mean square error of the model on the points that it has not seen: outputs/score.json."""

import json
import os
from pathlib import Path

model = json.loads(Path(os.environ["HPCRUN_INPUT_MODEL"]).read_text())
lines = Path(os.environ["HPCRUN_INPUT_DATA"]).read_text().splitlines()
points = [tuple(map(float, line.split(","))) for line in lines[len(lines) * 4 // 5 :]]
score = sum((model["slope"] * x + model["offset"] - y) ** 2 for x, y in points) / len(points)
Path("outputs/score.json").write_text(json.dumps({"mean_square_error": score}))
print(f"y = {model['slope']:.2f} x + {model['offset']:.2f}, mean square error {score:.4f}")
