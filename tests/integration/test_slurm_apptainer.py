"""A real image run by a real Apptainer, one container a process."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.support import Document, Login, how_it_ended

pytestmark = pytest.mark.cluster

# Runs in the image: no /etc/debian_version is in there, but on every host.
INSIDE = """\
import json, os, pathlib, sys
text = {}
for name in ("/data/given.txt", "/scratch/shared.txt"):
    path = pathlib.Path(name)
    text[name] = path.read_text() if path.exists() else None
try:
    pathlib.Path("/data/new.txt").write_text("x")
    read_only = False
except OSError:
    read_only = True
names = [name for name in os.environ if not name.startswith(("SLURM", "APPTAINER", "SINGULARITY"))]
found = {
    "host": os.path.exists("/etc/debian_version"),
    "container": os.environ.get("APPTAINER_CONTAINER"),
    "python": sys.executable,
    "cwd": os.getcwd(),
    "text": text,
    "read_only": read_only,
    "environment": {name: os.environ[name] for name in names},
}
rank = os.environ.get("RANK", "")
pathlib.Path(os.environ["HPCRUN_OUTPUT_DIR"], f"found{rank}.json").write_text(json.dumps(found))
print("hello from inside")
"""

DISTRIBUTED = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK"),
    *("MASTER_ADDR", "MASTER_PORT", "HPCRUN_RUN_ID", "HPCRUN_OUTPUT_DIR", "PYTHONUNBUFFERED"),
)

# Apptainer has a shell expand what it is given by APPTAINERENV_ names, unless told not to.
HOSTILE = "a 'quoted' $HOME\n$(touch /home/alice/canary) `touch /home/alice/canary` \"value\" \\"


def image(path: str, **more: Any) -> Document:
    """The environment section for an image."""
    return {"apptainer": {"image": path, **more}}


def test_a_run_inside_an_image(login: Login) -> None:
    """The image's Python, the binds of site and run, the run's own folder to write to, and its GPUs."""
    login.project({"inside.py": INSIDE})
    login.write("/home/alice/data/given.txt", "given")
    login.write("/scratch/shared.txt", "shared")
    login.add_site("other", apptainer={"executable": "/usr/bin/apptainer", "binds": ["/scratch"]})
    config = {
        "script": "inside.py",
        # No driver of any GPU is here to be passed in.
        "environment": image(login.cluster.sif, binds=["/home/alice/data:/data:ro"], gpu="none"),
        "environment_variables": {"TEXT": HOSTILE},
        "resources": {"gpus_per_node": 2},
    }
    run = login.finish(config, "-t", "other")

    assert how_it_ended(run) == ("Completed", "", 0), login.log(run)
    assert login.log(run) == "hello from inside\n"
    assert [output["name"] for output in run["outputs"]] == ["outputs/found.json"]
    found = json.loads(login.read(run, "outputs/found.json"))
    assert (found["host"], found["container"]) == (False, login.cluster.sif)
    assert found["python"] == "/usr/bin/python3"
    assert found["cwd"] == f"{run['run_dir']}/code"
    assert found["text"] == {"/data/given.txt": "given", "/scratch/shared.txt": "shared"}
    assert found["read_only"]
    assert found["environment"]["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert found["environment"]["TEXT"] == HOSTILE


def test_a_clean_environment_still_hands_on_what_a_rank_needs(login: Login) -> None:
    """On two nodes, one container a rank: the rank's variables and the user's own, nothing else."""
    login.project({"inside.py": INSIDE})
    login.add_site("other", setup="export LEFT_BEHIND=1\n", nccl={"NCCL_SOCKET_IFNAME": "eth0"})
    config = {
        "script": "inside.py",
        "environment": image(login.cluster.sif, clean_environment=True, gpu="none"),
        "environment_variables": {"TEXT": HOSTILE, "EMPTY": ""},
        "distributed_job_config": {"type": "pytorch", "node_count": 2, "communication_backend": "gloo"},
        "resources": {"gpus_per_node": 1},
    }
    run = login.finish(config, "-t", "other")

    assert how_it_ended(run) == ("Completed", "", 0), login.log(run, 0)
    for rank in (0, 1):
        found = json.loads(login.read(run, f"outputs/found{rank}.json"))["environment"]
        assert [found[name] for name in DISTRIBUTED[:5]] == [str(rank), "2", "0", "1", str(rank)]
        assert set(DISTRIBUTED) <= set(found)
        assert (found["TEXT"], found["EMPTY"]) == (HOSTILE, "")
        assert (found["NCCL_SOCKET_IFNAME"], found["CUDA_VISIBLE_DEVICES"]) == ("eth0", "0")
        assert found["HPCRUN_COMMUNICATION_BACKEND"] == "gloo"
        assert "LEFT_BEHIND" not in found and "HPCRUN_JOB_ID" in found
    assert not login.exists("/home/alice/canary")


def test_a_missing_image_or_program_is_named(login: Login) -> None:
    """Before the payload starts, with the path, and with what to set."""
    login.add_site("other", apptainer={"executable": "/opt/apptainer"})
    no_image = login.submit({"command": ["true"], "environment": image("/scratch/none.sif")})
    no_program = login.submit({"command": ["true"], "environment": image(login.cluster.sif)}, "-t", "other")
    no_image, no_program = login.wait(no_image, no_program)

    assert how_it_ended(no_image) == ("Failed", "Environment", 103)
    assert "there is no image /scratch/none.sif on node" in no_image["message"]
    assert how_it_ended(no_program) == ("Failed", "Environment", 103)
    assert "there is no program /opt/apptainer on node" in no_program["message"]
    assert "apptainer.executable" in no_program["message"]
