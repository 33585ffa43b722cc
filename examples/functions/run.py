"""A function map: eight runs estimate pi, each with a seed of its own. On a cluster: run.py SITE"""

from __future__ import annotations

import sys

from estimate import inside

from hpcrun import Experiment, Workspace

THROWS, RUNS = 200_000, 8


def main(target: str = "local", python: str | None = None) -> None:
    environment = {"python": {"interpreter_path": python}} if python else {}
    with Workspace.from_config() as workspace:
        runs = Experiment(workspace, "pi").map(
            inside,
            [THROWS] * RUNS,
            range(RUNS),
            compute_target=target,
            environment=environment,
            resources={"time": "5m"},
        )
        hits = [run.result() for run in runs]
    print(f"pi is about {4 * sum(hits) / (THROWS * RUNS):.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
