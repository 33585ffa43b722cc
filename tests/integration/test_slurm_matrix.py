"""Virtual environments and images with MPI and PyTorch over two nodes: what other suites leave out."""

from __future__ import annotations

import importlib.metadata
import sys

import pytest

from tests.integration.support import Login, example_config, how_it_ended
from tests.wheel_help import repacked, wheel

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SHOW = "import sys, mpi4py, torchhere\nprint(sys.prefix)\n"


def test_a_virtual_environment(login: Login) -> None:
    """One for a single process, for MPI and for PyTorch, each as its example is. mpi4py is installed in it;
    torch is large, and so a package that leads to the tests' own."""
    wheels = login.cluster.home() / "wheels"
    repacked(wheels, "mpi4py")
    torch_folder = importlib.metadata.distribution("torch").locate_file("")
    wheel(wheels, "torchhere", "1.0", "", more={"torchhere.pth": f"{torch_folder}\n"})
    options = ["--no-index", "--find-links=/home/alice/wheels"]
    venv = {"packages": ["mpi4py", "torchhere"], "pip_options": options, "python": sys.executable}
    environment = {"venv": venv}
    login.project({"show.py": SHOW})
    single = login.submit({"script": "show.py", "environment": environment})
    mpi = login.submit(
        {**example_config("mpi4py"), "environment": environment}, project=login.example("mpi4py")
    )
    torch = login.submit(
        {**example_config("pytorch"), "environment": environment}, project=login.example("pytorch")
    )
    runs = single, mpi, torch = login.wait(single, mpi, torch, timeout=240)
    for run in runs:
        assert how_it_ended(run) == ("Completed", "", 0), login.read(run, "system_logs/job.txt")
    folder = single["config"]["environment"]
    assert login.log(single).startswith(f"{folder['root']}/{folder['name']}-")
    assert "mpi4py==" in login.read(mpi, "system_logs/packages.txt")
    assert "from 4 processes on ['node" in login.read(mpi, "outputs/pi.txt")
    assert login.read(torch, "outputs/summary.txt").startswith("world size 4, loss 0.0")


def test_pytorch_in_containers(login: Login) -> None:
    """One container a rank, on two nodes; torch is bound into it from the tests' own, for its size, and so
    are libraries that it wants of a larger image."""
    binds = [sys.prefix, sys.base_prefix, "/usr/lib/x86_64-linux-gnu"]
    environment = {
        "apptainer": {"image": login.cluster.sif, "binds": binds, "gpu": "none"},
        "python": {"interpreter_path": sys.executable},
    }
    run = login.finish(
        {**example_config("pytorch"), "environment": environment},
        project=login.example("pytorch"),
        timeout=240,
    )
    assert how_it_ended(run) == ("Completed", "", 0), login.log(run, 0)
    assert login.read(run, "outputs/summary.txt").startswith("world size 4, loss 0.0")
