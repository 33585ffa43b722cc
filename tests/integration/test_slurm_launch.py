"""Several processes on several nodes: what starts them, what each of them finds, and how they end."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.integration.support import SYSTEM_PYTHON, Document, Login, how_it_ended

pytestmark = pytest.mark.cluster

NAMES = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"),
    *("HPCRUN_RUN_ID", "HPCRUN_ATTEMPT", "HPCRUN_OUTPUT_DIR", "CUDA_VISIBLE_DEVICES"),
)
RANK = f"""\
import json, os, socket
found = {{name: os.environ.get(name) for name in {NAMES!r}}}
found["host"] = socket.gethostname()
print(json.dumps(found))
"""

# One rank fails once the other has begun, which would go on for longer than any test. srun then has two
# codes to choose from: 7, and that of the rank it ended itself, which is higher.
ONE_FAILS = """\
import os, pathlib, sys, time
begun = pathlib.Path("outputs", "begun")
if os.environ["RANK"] == "0":
    begun.write_text("yes")
    time.sleep(600)
while not begun.exists():
    time.sleep(0.05)
print("no good", file=sys.stderr)
sys.exit(7)
"""

SHELL_SCRIPT = """\
printf '%s|' "$@"
echo "$0"
"""


def on(nodes: int, per_node: int, **more: Any) -> Document:
    """An MPI configuration, run by Debian's Python."""
    return {
        "distributed_job_config": {"type": "mpi", "node_count": nodes, "process_count_per_node": per_node},
        "environment": {"python": {"interpreter_path": SYSTEM_PYTHON}},
        **more,
    }


def test_mpi4py_over_two_nodes(login: Login) -> None:
    """The example as it is, with Debian's mpi4py: srun starts four processes that find each other by PMIx."""
    example = login.example("mpi4py")
    python = f"environment.python.interpreter_path={SYSTEM_PYTHON}"
    told = login.hpcrun("submit", "run.yaml", "-t", "virtual", "--set", python, "--follow", cwd=example)
    run = login.json("show", "@-1", cwd=example)

    assert how_it_ended(run) == ("Completed", "", 0)
    nodes = re.fullmatch(r"node\[(\d)[-,](\d)\]", run["nodes"])
    assert nodes is not None
    hosts = [f"node{number}" for number in nodes.groups()]
    words = login.read(run, "outputs/pi.txt")
    assert words.startswith("pi is about 3.14159265") and words.endswith(f"from 4 processes on {hosts}\n")
    for rank in range(4):
        assert login.log(run, rank).startswith(f"process {rank} of 4 on {hosts[rank // 2]} added ")
        assert f"[rank {rank}] process {rank} of 4" in told.stdout
    alone = login.hpcrun("logs", run["id"], "--rank", "3", cwd=example).stdout
    assert login.log(run, 3) in alone and "process 2 of 4" not in alone


def test_pytorch_over_two_nodes(login: Login) -> None:
    """The example as it is, on GLOO: one process a GPU, which train one model together."""
    example = login.example("pytorch")
    told = login.hpcrun("submit", "run.yaml", "-t", "virtual", "--wait", cwd=example, timeout=240)
    run = login.json("show", "@-1", cwd=example)

    assert "Completed" in told.stdout and how_it_ended(run) == ("Completed", "", 0)
    made = ["outputs/checkpoint.pt", "outputs/model.pt", "outputs/summary.txt"]
    assert [output["name"] for output in run["outputs"]] == made
    assert all(output["bytes"] for output in run["outputs"])
    assert login.read(run, "outputs/summary.txt").startswith("world size 4, loss 0.0")
    last = [login.log(run, rank).splitlines()[-1] for rank in range(4)]
    losses = {line.rpartition(" ")[2] for line in last}
    # The loss is the mean over all ranks, so all of them came to the same.
    assert len(losses) == 1
    assert last == [f"rank {rank} of 4, epoch 4: loss {''.join(losses)}" for rank in range(4)]


def test_what_every_rank_finds_in_its_environment(login: Login) -> None:
    """For PyTorch and MPI alike: who it is, how many there are and where they meet."""
    login.project({"rank.py": RANK})
    mpi = login.submit(on(2, 2, script="rank.py"))
    pytorch = {
        "script": "rank.py",
        "distributed_job_config": {"type": "pytorch", "process_count": 4, "node_count": 2},
        "environment": {"python": {"interpreter_path": SYSTEM_PYTHON}},
        "resources": {"gpus_per_node": 2},
    }
    torch = login.submit(pytorch)
    for run in login.wait(mpi, torch):
        assert how_it_ended(run) == ("Completed", "", 0)
        found = [json.loads(login.log(run, rank)) for rank in range(4)]
        numbers = [[int(rank[name]) for name in NAMES[:5]] for rank in found]
        assert numbers == [[0, 4, 0, 2, 0], [1, 4, 1, 2, 0], [2, 4, 0, 2, 1], [3, 4, 1, 2, 1]]
        # All meet on the host of rank 0, at a port that the kernel hands out to nobody.
        assert {rank["MASTER_ADDR"] for rank in found} == {found[0]["host"]}
        assert {rank["MASTER_PORT"] for rank in found} == {str(12000 + int(run["job_id"]) % 16000)}
        assert found[0]["host"] == found[1]["host"] != found[2]["host"] == found[3]["host"]
        assert {rank["HPCRUN_RUN_ID"] for rank in found} == {run["id"]}
        gpus = "0,1" if run["id"] == torch["id"] else None
        assert {rank["CUDA_VISIBLE_DEVICES"] for rank in found} == {gpus}


def test_a_rank_that_fails_ends_the_others(login: Login) -> None:
    """At once, and with its own exit code as the run's, for PyTorch and MPI alike."""
    login.project({"fail.py": ONE_FAILS})
    mpi = login.submit(on(2, 1, script="fail.py"))
    pytorch = {
        "script": "fail.py",
        "distributed_job_config": {"type": "pytorch", "process_count": 2, "node_count": 1},
        "environment": {"python": {"interpreter_path": SYSTEM_PYTHON}},
    }
    torch = login.submit(pytorch)
    for run in login.wait(mpi, torch, timeout=60):
        assert how_it_ended(run) == ("Failed", "BadExit", 7)
        assert re.match(r"rank 1 on node\d: .* exit code 7$", run["message"])
        assert login.log(run, 1) == "no good\n" and login.log(run, 0) == ""


def test_a_fast_network_has_names_of_its_own(login: Login) -> None:
    """The site's suffix goes behind the name of the node where all meet."""
    login.project({"rank.py": RANK})
    login.add_site("other", scheduler={"node_address_suffix": ".ib"})
    run = login.finish(on(2, 1, script="rank.py"), "-t", "other")
    found = [json.loads(login.log(run, rank)) for rank in (0, 1)]
    assert [rank["MASTER_ADDR"] for rank in found] == [f"{found[0]['host']}.ib"] * 2


def test_commands_and_shell_scripts(login: Login) -> None:
    """A list is one word each, a text is bash source for every process, a .sh script is run by bash."""
    words = ["printf", "%s|", "a  b", "$HOME", "*", "it's", "", "é\n"]
    login.project({"tool.sh": SHELL_SCRIPT})
    as_list = login.submit({"command": words})
    as_text = login.submit(on(1, 2, command='for x in a b; do echo "$RANK-$x"; done | tac'))
    script = login.submit({"script": "tool.sh", "arguments": words[2:]})
    as_list, as_text, script = login.wait(as_list, as_text, script)

    assert login.log(as_list) == "a  b|$HOME|*|it's||é\n|"
    assert [login.log(as_text, rank) for rank in (0, 1)] == ["0-b\n0-a\n", "1-b\n1-a\n"]
    assert login.log(script) == "a  b|$HOME|*|it's||é\n|./tool.sh\n"
    assert {run["state"] for run in (as_list, as_text, script)} == {"Completed"}


def test_mpi_on_the_machine_itself(login: Login) -> None:
    """The target ``local``: mpirun, where there is one, starts what srun starts on the cluster."""
    example = login.example("mpi4py")
    one_node = ("--set", "distributed_job_config.node_count=1", "-t", "local")
    python = f"environment.python.interpreter_path={SYSTEM_PYTHON}"
    login.hpcrun("submit", "run.yaml", *one_node, "--set", python, "--wait", cwd=example)
    run = login.json("show", "@-1", cwd=example)
    assert (run["state"], run["scheduler"]) == ("Completed", "local")
    logs = login.hpcrun("logs", "@-1", cwd=example).stdout
    assert {"process 0 of 2 on login", "process 1 of 2 on login"} <= set(
        re.findall(r"process \d of \d on \w+", logs)
    )
