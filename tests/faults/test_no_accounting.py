"""Clusters that keep no books, whether the site's description says so or not (fault 11)."""

from __future__ import annotations

import pytest

from tests.cluster.fixtures import BootCluster
from tests.faults.conftest import give_up_soon
from tests.integration.support import Login, how_it_ended

pytestmark = pytest.mark.cluster


@pytest.fixture
def bare(boot_cluster: BootCluster) -> Login:
    """A cluster without accounting whose queue forgets jobs two seconds after their end."""
    login = Login(boot_cluster(accounting=False, nodes=1, slurm_conf={"MinJobAge": "2"}))
    login.add_site("bare", scheduler={"accounting": False})
    return login


@pytest.mark.parametrize("site", ["virtual", "bare"])
def test_both_ends_are_found_after_the_queue_has_forgotten(bare: Login, site: str) -> None:
    """A site file that promises accounting is wrong here, and no harm is done, and nothing is stale."""
    good = bare.submit({"command": "true"}, "-t", site)
    bad = bare.submit({"command": "exit 4"}, "-t", site)
    bare.until_forgotten(good, bad)
    done = bare.hpcrun("wait", good["id"], bad["id"], check=False)
    assert done.stderr == ""
    assert how_it_ended(bare.show(good)) == ("Completed", "", 0)
    assert how_it_ended(bare.show(bad)) == ("Failed", "BadExit", 4)


def test_a_job_that_is_nowhere_is_lost_once_its_grace_is_over(bare: Login) -> None:
    """The controller forgot it before it began: no books, no word; unknown at first, then Lost."""
    run = bare.submit({"command": "true", "resources": {"sbatch": {"hold": True}}})
    bare.until_state(run, "Queued", "JobHeldUser")
    bare.cluster.restart_controller(clear_state=True)
    assert give_up_soon(bare, run) == ["Queued", "Failed"]
    assert how_it_ended(bare.show(run)) == ("Failed", "Lost", None)
