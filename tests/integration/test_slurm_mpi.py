"""MPI and Slurm's PMI plug-ins: those that do not go together are found out before the run begins."""

from __future__ import annotations

import pytest

from tests.cluster.fixtures import BootCluster
from tests.integration.support import BARE_PYTHON, SYSTEM_PYTHON, Document, Login, how_it_ended
from tests.integration.test_site_probe import slurm_of
from tests.integration.test_slurm_explain import explained

pytestmark = pytest.mark.cluster

SCRIPT = """\
from mpi4py import MPI

print("a world of", MPI.COMM_WORLD.Get_size())
"""


def with_mpi4py(login: Login, **more: object) -> Document:
    """Debian's mpi4py and Open MPI, which knows PMIx alone, on two nodes."""
    login.project({"world.py": SCRIPT})
    return {
        "script": "world.py",
        "distributed_job_config": {"type": "mpi", "node_count": 2, "process_count_per_node": 1, **more},
        "environment": {"python": {"interpreter_path": SYSTEM_PYTHON}},
    }


def said(login: Login, run: Document) -> str:
    """What became of a run that was not begun, in its own words."""
    assert how_it_ended(run) == ("Failed", "LaunchFailed", 104), login.read(run, "system_logs/job.txt")
    assert login.log(run, 0) == login.log(run, 1) == ""
    why = explained(login, run)
    assert why["cause"] == "LaunchFailed" and run["message"] in why["words"]
    message: str = run["message"]
    return message


def test_a_plug_in_that_does_not_go_with_the_mpi(login: Login) -> None:
    """Without the check each of the processes would be rank 0 of 1, and the run Completed."""
    config = with_mpi4py(login)
    for plugin in ("none", "pmi2"):
        words = said(login, login.finish(config, "-t", login.add_site(plugin, scheduler={"mpi": plugin})))
        assert f"each MPI process would be alone: srun --mpi={plugin} and Open MPI v5" in words
        assert "which wants pmix" in words and " pmi2" in words.partition("offers: ")[2]
        assert words.endswith("Set scheduler.mpi to pmix in the site's file")
    unchecked = login.finish(with_mpi4py(login, check=False), "-t", "pmi2")
    assert how_it_ended(unchecked) == ("Completed", "", 0)
    assert all(login.log(unchecked, rank).endswith("a world of 1\n") for rank in (0, 1))
    right = login.finish(config)
    assert [login.log(right, rank) for rank in (0, 1)] == ["a world of 2\n"] * 2


def test_a_plug_in_that_is_not_there(login: Login) -> None:
    site = login.add_site("nonsense", scheduler={"mpi": "nonsense"})
    words = said(login, login.finish(with_mpi4py(login), "-t", site))
    assert words.startswith("srun has no plug-in nonsense. This Slurm offers: none ") and "pmix" in words


def test_what_cannot_be_told_is_not_told(login: Login) -> None:
    """No word of mpi4py in the code, or none in the environment: the run is left alone."""
    site = login.add_site("pmi2", scheduler={"mpi": "pmi2"})
    login.project({"world.py": "print('no MPI at all')\n"}, "plain")
    config = with_mpi4py(login)
    plain = login.submit(config, "-t", site, project=f"{login.home}/plain")
    bare = login.submit({**config, "environment": {"python": {"interpreter_path": BARE_PYTHON}}}, "-t", site)
    plain, bare = login.wait(plain, bare)
    assert how_it_ended(plain) == ("Completed", "", 0)
    assert how_it_ended(bare) == ("Failed", "BadExit", 1)
    # Whichever of the two failed later may have been ended before it could say so.
    assert "No module named 'mpi4py'" in login.log(bare, 0) + login.log(bare, 1)


@pytest.mark.slow
def test_what_is_late_proves_nothing(login: Login) -> None:
    """An mpi4py of the run's own plays one that hangs in its first call, which is to be had from none."""
    files = {"mpi4py/__init__.py": "", "mpi4py/run.py": "", "mpi4py/MPI.py": "import time\ntime.sleep(600)\n"}
    files["mpi4py/__main__.py"] = "print('begun')\n"
    config = with_mpi4py(login)
    login.project(files)
    run = login.finish(config, timeout=180)
    assert how_it_ended(run) == ("Completed", "", 0)
    assert login.log(run, 0) == "begun\n"


def test_a_slurm_without_pmix(boot_cluster: BootCluster) -> None:
    """As Debian's newest is, whose Open MPI wants PMIx all the same."""
    login = slurm_of("sid", boot_cluster)
    config = with_mpi4py(login)
    words = said(login, login.finish(config))
    assert words.startswith("srun has no plug-in pmix. This Slurm offers: none ")
    words = said(login, login.finish(config, "-t", login.add_site("pmi2", scheduler={"mpi": "pmi2"})))
    assert "each MPI process would be alone" in words
    assert "and no pmix: take an MPI that speaks one of these, or set scheduler.mpi to mpirun" in words
