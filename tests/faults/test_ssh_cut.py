"""Fault 25, and exactly once by SSH: the connection of a submission is cut, at any byte, both ways."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.ssh_laptop import Laptop, laptop_of

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

PLACES = 25


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    yield from laptop_of(cluster, tmp_path, monkeypatch)


def files(folder: Path) -> dict[str, bytes]:
    """What a run's working copy, or the source, holds."""
    found = (path.relative_to(folder) for path in folder.rglob("*"))
    names = [name for name in found if name.parts[0] not in ("outputs", "logs", "__pycache__")]
    return {str(name): (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def change(laptop: Laptop, number: int) -> dict[str, bytes]:
    """Another snapshot, of which some kilobytes are new."""
    (laptop.source / "part").mkdir(exist_ok=True)
    (laptop.source / "part" / f"new-{number}").write_bytes(os.urandom(5000))
    return files(laptop.source)


@pytest.mark.parametrize("cuts", [1, 4], ids=["once", "again and again"])
@pytest.mark.parametrize("way", ["up", "down"])
def test_the_connection_is_cut(laptop: Laptop, way: str, cuts: int) -> None:
    """At each place the submission ends as it can, and over a whole connection the next command makes one job
    of each run that is in the history. Where there is none, the command had said so before it began."""
    with laptop.by_relay() as relay:
        runs = [laptop.submit()]  # the root is known from now on
        expected = [files(laptop.source)]
        laptop.hang_up()
        before = getattr(relay, f"bytes_{way}")
        laptop.hpcrun("login", "far")
        greeting = getattr(relay, f"bytes_{way}") - before
        laptop.hang_up()
        before = getattr(relay, f"bytes_{way}")
        expected.append(change(laptop, 0))
        runs.append(laptop.submit())
        total = getattr(relay, f"bytes_{way}") - before
        codes = []
        for number in range(1, PLACES + 1):
            laptop.hang_up()
            expected.append(change(laptop, number))
            known = {run["id"] for run in laptop.json("ls", "-n", "1000", "--no-refresh")["runs"]}
            # Once while the host is greeted, which most of what comes down is for; then all over the rest.
            at = greeting // 2 if number == 1 else greeting + (total - greeting) * number // PLACES
            setattr(relay, f"cut_{way}", at)
            relay.cuts = cuts
            done = laptop.hpcrun("submit", "run.yaml", "-t", "far", "--json", check=False)
            relay.cuts = 0
            codes.append(done.returncode)
            assert done.returncode in (0, 11), (number, done.stdout, done.stderr)
            laptop.hang_up()
            new = [run for run in laptop.json("ls", "-n", "1000")["runs"] if run["id"] not in known]
            assert len(new) == 1 or (not new and done.returncode == 11)
            runs += new
            if not new:
                expected.pop()
        ended = [laptop.ended(run) for run in runs]
    # What is cut while the host is greeted is told at once; what is cut later is made good.
    assert codes[0] == 11 and codes[-1] == 0, codes
    assert len(runs) > PLACES // 3
    assert [run["exit_code"] for run in ended] == [0] * len(ended)
    laptop.one_job_each(*ended)
    for run, tree in zip(ended, expected, strict=True):
        assert files(laptop.there(run, "code")) == tree
    print(way, cuts, greeting, total, codes)
