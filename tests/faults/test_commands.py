"""One squeue and at most one sacct a refresh, for any number of runs."""

from __future__ import annotations

import pytest

from tests.cluster.cluster import Cluster
from tests.faults.conftest import Login

pytestmark = pytest.mark.cluster

# Runs that are on their way, as the history has them after as many submissions.
MANY = """
import sys
from dataclasses import replace
from hpcrun import Workspace
from hpcrun.history.record import new_run_id
history = Workspace.from_config().history
(row,) = history.active()
record = history.get(row.id)
for index in range(int(sys.argv[1])):
    run_id = new_run_id(record.experiment)
    folder = str(history.paths.run(run_id).folder)
    history.create(replace(record, id=run_id, job_id=str(10**7 + index), run_dir=folder))
"""


@pytest.mark.parametrize("many", [300, pytest.param(3000, marks=pytest.mark.slow)])
def test_one_squeue_and_one_sacct(login: Login, cluster: Cluster, many: int) -> None:
    """300 names go on sacct's command line; 3000 are more than an argument may hold."""
    login.hpcrun("submit", "run.yaml", "--set", "resources.sbatch={hold: true}")
    login.python(MANY, str(many), timeout=300)
    for name in ("squeue", "sacct", "scontrol", "sinfo"):
        note = f'#!/bin/bash\necho {name} >>/home/alice/calls\nexec /usr/bin/{name} "$@"\n'
        environment = login.put_on_path(name, note)
    done = login.hpcrun("ls", "-n", "1", env=environment)
    assert "shown as last seen" not in done.stderr
    called = (cluster.home() / "calls").read_text().split()
    assert sorted(called) == ["sacct", "squeue"]
    assert login.rows() == many + 1
