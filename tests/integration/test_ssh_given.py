"""Runs that have files of runs on other machines: by way of home, over SSH, to where they run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.cluster import Cluster
from tests.ssh_help import ssh_config
from tests.ssh_laptop import Document, Laptop, laptop_of

pytestmark = pytest.mark.cluster

LARGE = 3_000_000


@pytest.fixture
def laptop(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    yield from laptop_of(cluster, tmp_path, monkeypatch)


def other_site(laptop: Laptop) -> None:
    """The same cluster as another machine: by another name, with runs in another folder."""
    config = ssh_config(laptop.cluster, laptop.folder / "ssh")
    text = config.read_text()
    config.write_text(text.replace("Host login\n", "Host login other\n", 1))
    site = yaml.safe_load((laptop.project / "site_configs/far.yaml").read_text())
    site["connection"] |= {"host": "other", "ssh_config": str(config)}
    site["root"] = "$HOME/other"
    (laptop.project / "site_configs/other.yaml").write_text(yaml.safe_dump(site))


def local(laptop: Laptop, command: str, **more: object) -> Document:
    laptop.config(command=command, **more)
    return laptop.json("submit", "run.yaml", "-t", "local", "--wait")


def made_here(laptop: Laptop, size: int = LARGE) -> tuple[Document, bytes]:
    """A run of this machine, and the one large file in its outputs."""
    content = os.urandom(size)
    (laptop.folder / "content").write_bytes(content)
    return local(laptop, f"cp {laptop.folder}/content outputs/model.pt"), content


def pipeline(laptop: Laptop, **steps: Document) -> Document:
    config = {"experiment": "exp", "source_directory": "src", "steps": steps}
    (laptop.project / "pipeline.yaml").write_text(json.dumps(config))
    return laptop.json("submit", "pipeline.yaml", "--wait", timeout=180, check=False)


def outputs(laptop: Laptop, run_id: str) -> Path:
    return laptop.project / ".hpcrun/runs" / run_id / "outputs"


def test_from_here_to_there_and_on(laptop: Laptop) -> None:
    """A pipeline whose steps are on three machines, and a run that resumes its last one, here."""
    other_site(laptop)
    made = pipeline(
        laptop,
        prepare={"command": "seq 3 > outputs/data", "compute_target": "local"},
        train={
            "command": "sed s/^/far/ $HPCRUN_INPUT_DATA > outputs/model",
            "inputs": {"data": "steps.prepare/outputs/data"},
            "compute_target": "far",
        },
        sharpen={
            "command": "sed s/^/other/ $HPCRUN_INPUT_MODEL/model > outputs/model",
            "inputs": {"model": "steps.train/outputs"},
            "compute_target": "other",
        },
        judge={
            "command": "cat $HPCRUN_INPUT_MODEL $HPCRUN_INPUT_DATA > outputs/all",
            "inputs": {"model": "steps.sharpen/outputs/model", "data": "steps.prepare/outputs/data"},
            "compute_target": "local",
        },
    )
    assert (made["state"], made["message"]) == ("Completed", ""), made
    steps = {step["name"]: step["id"] for step in made["submission"]["steps"]}
    expected = "otherfar1\notherfar2\notherfar3\n1\n2\n3\n"
    assert (outputs(laptop, steps["judge"]) / "all").read_text() == expected
    laptop.config(command="cp -r $HPCRUN_RESUME_FROM/. outputs", resume_from=steps["judge"])
    again = laptop.json("submit", "run.yaml", "-t", "other", "--wait")
    assert (outputs(laptop, again["id"]) / "all").read_text() == expected
    once_more = laptop.json("rerun", again["id"], "-t", "far", "--wait")
    assert (outputs(laptop, once_more["id"]) / "all").read_text() == expected


def test_it_waits_for_a_run_that_goes_on_elsewhere(laptop: Laptop) -> None:
    """Held back, and told so; with the end of the other run the next command that looks sends it. Of files
    that were left there those that are wanted come first."""
    laptop.config(
        command="until [ -e go ]; do sleep 0.1; done; echo made > outputs/thing", sync={"exclude": ["*"]}
    )
    first = laptop.submit()
    laptop.config(command="cp $HPCRUN_RESUME_FROM/thing outputs/copy", resume_from=first["id"])
    second = laptop.json("submit", "run.yaml", "-t", "local")
    assert (second["state"], second["reason"], second["job_id"]) == ("NotStarted", "Dependency", None)
    assert first["id"] in laptop.json("explain", second["id"])["words"]
    laptop.until(first, "Running")
    laptop.there(first, "code/go").touch()
    laptop.hpcrun("wait", second["id"])
    assert (outputs(laptop, second["id"]) / "copy").read_text() == "made\n"


def resuming(laptop: Laptop, size: int = LARGE) -> None:
    """run.yaml goes on from a new run of this machine, and looks whether it has all of it."""
    first, content = made_here(laptop, size)
    digest = hashlib.sha256(content).hexdigest()
    check = f'[ "$(sha256sum < $HPCRUN_RESUME_FROM/model.pt)" = "{digest}  -" ]'
    laptop.config(command=check, resume_from=first["id"])


def kept_back(laptop: Laptop) -> str:
    """The one run that is not sent yet; nothing half there is under its name."""
    laptop.hang_up()
    rows = laptop.json("ls", "--no-refresh", "-n", "100")["runs"]
    (kept,) = [row["id"] for row in rows if row["state"] == "NotStarted"]
    given = laptop.root(f"runs/{kept}/given")
    assert not given.exists() or not list(given.iterdir())
    return str(kept)


def test_the_connection_is_cut_on_the_way(laptop: Laptop) -> None:
    """Once, in the middle of the transfer: it is gone on with. Again and again: the run is kept, and sent by
    the next command."""
    with laptop.by_relay() as relay:
        resuming(laptop)
        relay.cut_up, relay.cuts, before = LARGE // 2, 1, relay.bytes_up
        run = laptop.submit()
        assert relay.cuts == 0, "it was cut"
        assert relay.bytes_up - before < LARGE * 3 // 2, "what had come was not sent again"
        assert laptop.ended(run)["exit_code"] == 0
        laptop.hang_up()
        resuming(laptop)
        relay.cut_up, relay.cuts = LARGE // 5, None
        told = laptop.refused().stderr
        relay.cut_up = None
        assert "Nothing has been submitted yet" in told, told
        assert laptop.ended(kept_back(laptop))["exit_code"] == 0


def test_hpcrun_is_killed_on_the_way(laptop: Laptop) -> None:
    with laptop.by_relay() as relay:
        resuming(laptop)
        laptop.hpcrun("login", "far")
        relay.latency, before = 0.05, relay.bytes_up
        process = laptop.start("submit", "run.yaml", "-t", "far")
        laptop.cluster.wait_for(lambda: relay.bytes_up - before > LARGE // 3, 60, "a part of it to be sent")
        process.kill()
        process.communicate(timeout=30)
        relay.latency = 0
        assert laptop.ended(kept_back(laptop))["exit_code"] == 0


def test_the_disk_is_full_there(laptop: Laptop, cluster: Cluster) -> None:
    """Said in its words, and nothing is submitted; with room, the next submission has all of it."""
    small = cluster.outside("/small")
    (small / "hpc").mkdir()
    cluster.chown(small / "hpc")
    laptop.site(root="/small/hpc")
    resuming(laptop)
    ballast = small / "ballast"
    cluster.run("login", ["sh", "-c", "dd if=/dev/zero of=/small/ballast bs=64k || :"], user="root")
    os.truncate(ballast, ballast.stat().st_size - LARGE // 2)
    told = laptop.refused().stderr
    assert "No space left" in told and "Make room there" in told, told
    assert [run["job_id"] for run in laptop.runs() if run["target"] == "far"] == [None]
    ballast.unlink()
    run = laptop.finish()
    assert run["exit_code"] == 0
    assert not list((small / "hpc/given").glob("*.part.*"))
