# mypy: disable-error-code="no-redef"
"""The suite of the shells once more, to the sshd, bash and tools of an older and of a newer Debian."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcrun.shells import PosixShell, shell_for
from tests.cluster.cluster import Cluster
from tests.cluster.fixtures import booting, of_suite
from tests.integration.test_shells import *  # noqa: F403 (its tests and fixtures, but for those below)
from tests.integration.test_shells import REMOTE, _runtime, to_login  # noqa: F401

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module", params=["bookworm", "sid"])
def site(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with booting(request.config) as boot:
        yield of_suite(request.param, boot, nodes=1, accounting=False)


@pytest.fixture(params=REMOTE)
def shell(request: pytest.FixtureRequest, site: Cluster, tmp_path: Path) -> PosixShell:
    return shell_for(to_login(site, tmp_path, request.param))
