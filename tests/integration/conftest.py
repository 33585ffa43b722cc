"""Alice, logged in to the virtual cluster, with hpcrun and a description of it."""

from __future__ import annotations

import pytest

from tests.cluster.cluster import Cluster
from tests.integration.support import Login


@pytest.fixture
def login(cluster: Cluster) -> Login:
    """The session's cluster, clean, as alice sees it from its login node."""
    return Login(cluster)
