"""pytest plugin: the `cluster` fixture, and every daemon's log when a test fails."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.layout import ARTIFACTS
from tests.cluster.options import Options
from tests.cluster.procs import ClusterError, CommandError
from tests.cluster.rootfs import rootfs
from tests.cluster.support import unsupported_reason

BootCluster = Callable[..., Cluster]

_booted = pytest.StashKey[list[Cluster]]()


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and start with no cluster."""
    config.addinivalue_line("markers", "cluster: needs the virtual Slurm cluster (root on Debian)")
    config.stash[_booted] = []


def _require_support() -> None:
    reason = unsupported_reason()
    if reason is None:
        return
    if os.environ.get("CI") == "true":
        # Where the cluster is a must, a skip would be a green lie.
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or under CI=true fail, what is marked for a cluster where none can be."""
    if item.get_closest_marker("cluster"):
        _require_support()


@contextlib.contextmanager
def _seen(config: pytest.Config) -> Iterator[None]:
    """Let progress through to the terminal: the first boot of all takes minutes."""
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        yield
    else:
        with capture.global_and_fixture_disabled():
            yield


@pytest.fixture(scope="session")
def cluster_session(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """The session's cluster, as the last test left it."""
    _require_support()
    with _seen(pytestconfig):
        cluster = Cluster.boot()
    pytestconfig.stash[_booted].append(cluster)
    try:
        yield cluster
    finally:
        pytestconfig.stash[_booted].remove(cluster)
        cluster.down()


@pytest.fixture
def cluster(cluster_session: Cluster) -> Cluster:
    """The session's cluster, without a trace of earlier tests."""
    try:
        cluster_session.reset()
    except Exception as error:
        # One test's wreck must not sink all that come after it.
        print(f"reset failed, so the cluster is booted anew: {error}")
        print(f"logs until then: {cluster_session.save_logs(_artifacts('failed-reset'))}")
        cluster_session.reboot()
    return cluster_session


@contextlib.contextmanager
def booting(config: pytest.Config) -> Iterator[BootCluster]:
    """Boot clusters of one's own, `boot(accounting=False)`; they go at the end."""
    _require_support()
    with contextlib.ExitStack() as stack:

        def boot(**options: object) -> Cluster:
            with _seen(config):
                cluster = Cluster.boot(Options(**options))  # type: ignore[arg-type]
            stack.callback(cluster.down)
            config.stash[_booted].append(cluster)
            stack.callback(config.stash[_booted].remove, cluster)
            return cluster

        yield boot


@pytest.fixture
def boot_cluster(pytestconfig: pytest.Config) -> Iterator[BootCluster]:
    """Boot further clusters; they go with the test."""
    with booting(pytestconfig) as boot:
        yield boot


def of_suite(suite: str, boot: BootCluster, **options: object) -> Cluster:
    """A cluster of a Debian suite's programs; sid, which moves, may not be there to be had."""
    try:
        rootfs(suite)
    except (ClusterError, CommandError) as error:
        if suite != "sid":
            raise
        pytest.skip(f"no root file system of {suite} can be built today: {error}")
    return boot(slurm=suite, **options)


def _artifacts(name: str) -> Path:
    return ARTIFACTS / re.sub(r"[^\w.\[\]-]+", "-", name)[:120]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the logs of every cluster that is up when a test that may use it fails."""
    report = yield
    names = getattr(item, "fixturenames", ())
    ours = {"cluster", "cluster_session", "boot_cluster"}.intersection(names)
    if report.failed and (ours or item.get_closest_marker("cluster")):
        for cluster in item.config.stash[_booted]:
            into = _artifacts(item.nodeid.removeprefix("tests/")) / f"cluster-{cluster.number}"
            with contextlib.suppress(OSError):
                report.sections.append(("daemon logs", str(cluster.save_logs(into))))
    return report
