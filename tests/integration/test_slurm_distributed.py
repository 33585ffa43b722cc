"""Further ways to start the processes of a run: torchrun, mpirun, TensorFlow's, one in each container."""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.cluster.fixtures import BootCluster
from tests.cluster.procs import Process
from tests.integration.support import SYSTEM_PYTHON, Document, Login, how_it_ended

pytestmark = pytest.mark.cluster

NAMES = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"),
    *("HPCRUN_RUN_ID", "CUDA_VISIBLE_DEVICES", "TF_CONFIG", "APPTAINER_CONTAINER"),
)
RANK = f"""\
import json, os, socket
found = {{name: os.environ.get(name) for name in {NAMES!r}}}
found["host"] = socket.gethostname()
print(json.dumps(found))
"""
DEBIANS = {"python": {"interpreter_path": SYSTEM_PYTHON}}


def found_by(login: Login, run: Document, number: int) -> list[Document]:
    """What each rank has found in its environment."""
    return [json.loads(login.log(run, rank)) for rank in range(number)]


def test_tensorflows_tasks_find_each_other(login: Login) -> None:
    """The example as it is: two workers on two nodes, a parameter server which is ended last."""
    example = login.example("tensorflow")
    python = f"environment.python.interpreter_path={SYSTEM_PYTHON}"
    gpus = "resources.gpus_per_node=2"
    login.hpcrun("submit", "run.yaml", "-t", "virtual", "--set", python, "--set", gpus, "--wait", cwd=example)
    run = login.json("show", "@-1", cwd=example)

    assert how_it_ended(run) == ("Completed", "", 0)
    cluster = json.loads(login.read(run, "outputs/worker0.json"))["cluster"]
    hosts = {name: [address.partition(":")[0] for address in cluster[name]] for name in cluster}
    assert hosts["worker"] == sorted(set(hosts["worker"])) and hosts["ps"] == hosts["worker"][:1]
    assert login.log(run, 0) == f"worker 0 at {cluster['worker'][0]} talked to ps 0, worker 1\n"
    assert login.log(run, 1) == f"worker 1 at {cluster['worker'][1]} talked to ps 0, worker 0\n"
    assert login.log(run, 2) == f"ps 0 at {cluster['ps'][0]} talked to worker 0, worker 1\n"


def test_torchrun_over_two_nodes(login: Login) -> None:
    """The PyTorch example by torchrun: the same logs and outputs as by srun, and the same variables."""
    example = login.example("pytorch")
    torchrun = (
        "--set",
        "distributed.pytorch.launcher=torchrun",
        "--set",
        "arguments=[--epochs, 2, --loss, 9]",
    )
    told = login.hpcrun("submit", "run.yaml", "-t", "virtual", *torchrun, "--wait", cwd=example, timeout=240)
    run = login.json("show", "@-1", cwd=example)
    assert "Completed" in told.stdout and how_it_ended(run) == ("Completed", "", 0)
    last = [login.log(run, rank).splitlines()[-1] for rank in range(4)]
    assert last == [f"rank {rank} of 4, epoch 1: loss {last[0].rpartition(' ')[2]}" for rank in range(4)]


def test_torchrun_gives_every_process_its_place(login: Login) -> None:
    """Logs, variables and GPUs as by srun; on as many nodes as are free; started again after a failure."""
    login.project({"rank.py": RANK, "fail.py": FAILS_ONCE})
    # One node is taken, so that of the three that would be nice two are left.
    taken = login.submit({"command": "sleep 300", "resources": {"cpus_per_task": 4}})
    login.until_state(taken, "Running")
    torchrun = {"type": "pytorch", "launcher": "torchrun", "communication_backend": "gloo"}
    resources = {"gpus_per_node": 2, "memory": "1G"}
    elastic = {**torchrun, "min_nodes": 1, "max_nodes": 3}
    config = {"script": "rank.py", "distributed_job_config": elastic, "resources": resources}
    open_ = login.submit(config)
    again = {**torchrun, "process_count": 2, "max_restarts": 1}
    config = {"script": "fail.py", "distributed_job_config": again, "resources": {"memory": "1G"}}
    failing = login.submit(config)
    open_, failing = login.wait(open_, failing, timeout=240)
    login.hpcrun("cancel", taken["id"])

    assert how_it_ended(open_) == ("Completed", "", 0)
    found = found_by(login, open_, 4)
    numbers = [[int(rank[name]) for name in NAMES[:5]] for rank in found]
    assert numbers == [[0, 4, 0, 2, 0], [1, 4, 1, 2, 0], [2, 4, 0, 2, 1], [3, 4, 1, 2, 1]]
    assert {rank["MASTER_ADDR"] for rank in found} == {found[0]["host"]}
    assert found[0]["host"] == found[1]["host"] != found[2]["host"] == found[3]["host"]
    assert {rank["HPCRUN_RUN_ID"] for rank in found} == {open_["id"]}
    # Both see both, and choose by LOCAL_RANK: peers must see each other.
    assert {rank["CUDA_VISIBLE_DEVICES"] for rank in found} == {"0,1"}
    assert how_it_ended(failing) == ("Completed", "", 0)
    assert [login.log(failing, rank) for rank in (0, 1)] == ["try 0\ntry 1\n"] * 2


FAILS_ONCE = """\
import os, pathlib, sys, time
attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
print("try", attempt, flush=True)
pathlib.Path("outputs", f"{attempt}.{os.environ['RANK']}").touch()
while len(list(pathlib.Path("outputs").glob(f"{attempt}.*"))) < 2:
    time.sleep(0.05)
if attempt == "0":
    sys.exit(5 if os.environ["RANK"] == "1" else time.sleep(600))
"""


def test_mpirun_where_the_site_says_so(login: Login) -> None:
    """The mpi4py example, started by Open MPI's own mpirun; its ranks find what srun's find."""
    example = login.example("mpi4py")
    login.write(f"{example}/rank.py", RANK)
    login.add_site("other", scheduler=BY_MPIRUN, environment_variables=OVERSUBSCRIBED)
    python = f"environment.python.interpreter_path={SYSTEM_PYTHON}"
    login.hpcrun("submit", "run.yaml", "-t", "other", "--set", python, "--wait", cwd=example)
    run = login.json("show", "@-1", cwd=example)
    assert how_it_ended(run) == ("Completed", "", 0)
    assert " from 4 processes on " in login.read(run, "outputs/pi.txt")

    dist = {"type": "mpi", "node_count": 2, "process_count_per_node": 2}
    config = {"script": "rank.py", "distributed_job_config": dist, "environment": DEBIANS}
    run = login.finish(config, "-t", "other", project=example)
    found = found_by(login, run, 4)
    numbers = [[int(rank[name]) for name in NAMES[:5]] for rank in found]
    assert numbers == [[0, 4, 0, 2, 0], [1, 4, 1, 2, 0], [2, 4, 0, 2, 1], [3, 4, 1, 2, 1]]
    assert {rank["MASTER_ADDR"] for rank in found} == {found[0]["host"]}
    assert found[0]["host"] == found[1]["host"] != found[2]["host"] == found[3]["host"]


BY_MPIRUN = {"mpi": "mpirun", "mpirun": {"bind-to": "none"}}
# The nodes claim more cores than the machine has.
OVERSUBSCRIBED = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}


INSIDE = """\
import os
from mpi4py import MPI
world = MPI.COMM_WORLD
hosts = sorted(set(world.allgather(MPI.Get_processor_name())))
print(world.rank, world.size, hosts, os.environ["APPTAINER_CONTAINER"], os.path.exists("/etc/debian_version"))
"""


def test_mpi_in_containers(login: Login) -> None:
    """One container a rank, by srun and by mpirun: the MPI inside finds the others by what comes in.

    The image has no MPI; it gets Debian's, as an image with an MPI of its own would have one.
    """
    login.project({"inside.py": INSIDE})
    binds = ["/usr", "/etc/openmpi", "/etc/alternatives"]
    config = {
        "script": "inside.py",
        "distributed_job_config": {"type": "mpi", "node_count": 2, "process_count_per_node": 2},
        "environment": {"apptainer": {"image": login.cluster.sif, "binds": binds}},
    }
    login.add_site("other", scheduler=BY_MPIRUN, environment_variables=OVERSUBSCRIBED)
    by_srun = login.submit(config)
    by_mpirun = login.submit(config, "-t", "other")
    for run in login.wait(by_srun, by_mpirun):
        assert how_it_ended(run) == ("Completed", "", 0), login.log(run, 0)
        for rank in range(4):
            said = rf"{rank} 4 \['node\d', 'node\d'\] {login.cluster.sif} False\n"
            assert re.fullmatch(said, login.log(run, rank)), login.log(run, rank)


def test_torchrun_in_a_container(login: Login) -> None:
    """One container a node: torchrun and its processes are all inside, and find what they need there."""
    login.project({"rank.py": RANK})
    python = Path(sys.executable)
    binds = ["/usr", str(python.parent.parent), sys.base_prefix]
    config = {
        "script": "rank.py",
        "distributed_job_config": {
            "type": "pytorch",
            "launcher": "torchrun",
            "process_count": 4,
            "node_count": 2,
        },
        "environment": {
            "apptainer": {
                "image": login.cluster.sif,
                "binds": binds,
                "clean_environment": True,
                "gpu": "none",
            },
            "python": {"interpreter_path": str(python)},
        },
        "resources": {"memory": "2G"},
    }
    run = login.finish(config, timeout=240)
    assert how_it_ended(run) == ("Completed", "", 0), login.read(run, "system_logs/job.txt")
    found = found_by(login, run, 4)
    numbers = [[int(rank[name]) for name in NAMES[:5]] for rank in found]
    assert numbers == [[0, 4, 0, 2, 0], [1, 4, 1, 2, 0], [2, 4, 0, 2, 1], [3, 4, 1, 2, 1]]
    assert {rank["APPTAINER_CONTAINER"] for rank in found} == {login.cluster.sif}
    assert {rank["HPCRUN_RUN_ID"] for rank in found} == {run["id"]}


def test_a_port_that_somebody_has_is_left_alone(login: Login) -> None:
    """Even on another address than the one that is looked at; by PyTorch's processes and TensorFlow's."""
    login.project({"rank.py": RANK, "take.py": TAKES})
    first = login.finish({"command": "true"})
    number = int(first["job_id"])
    ports = [str(12000 + (number + jobs + 4001 * index) % 16000) for jobs in (2, 3) for index in range(4)]
    takes = login.submit({"script": "take.py", "arguments": ports, "environment": DEBIANS})
    login.until_logged(takes, "taken")
    node = login.log(takes).split()[1]
    there = {"sbatch": {"nodelist": node}, "nodes": 1}
    torch = {"type": "pytorch", "process_count": 2}
    tensorflow = {"type": "tensorflow", "worker_count": 2}
    runs = [
        login.submit(
            {"script": "rank.py", "distributed_job_config": kind, "environment": DEBIANS, "resources": there}
        )
        for kind in (torch, tensorflow)
    ]
    runs = login.wait(*runs)
    login.hpcrun("cancel", takes["id"])
    assert [int(run["job_id"]) for run in runs] == [number + 2, number + 3]
    assert [how_it_ended(run) for run in runs] == [("Completed", "", 0)] * 2
    told = {found_by(login, run, 2)[0]["MASTER_PORT"] for run in runs}
    cluster = json.loads(found_by(login, runs[1], 3)[0]["TF_CONFIG"])["cluster"]
    told |= {address.partition(":")[2] for address in [*cluster["worker"], *cluster["ps"]]}
    assert len(told) == 5 and not told & set(ports)


TAKES = """\
import socket, sys, time
own = socket.gethostbyname(socket.gethostname())
servers = [socket.create_server((own, int(port))) for port in sys.argv[1:]]
print("taken", socket.gethostname(), flush=True)
time.sleep(600)
"""


def test_a_command_runs_once_a_node_and_starts_its_own(login: Login) -> None:
    """As in Azure ML: with process_count left out; also on this machine, and by torchrun's own command."""
    login.project({"rank.py": RANK, "node.sh": NODE})
    config = {
        "command": ["bash", "node.sh", SYSTEM_PYTHON],
        "distributed_job_config": {"type": "pytorch", "node_count": 2},
        "resources": {"gpus_per_node": 2},
    }
    run = login.finish(config)
    assert how_it_ended(run) == ("Completed", "", 0)
    said = [login.log(run, node).splitlines() for node in (0, 1)]
    names = ("NODE_RANK", "WORLD_SIZE", "LOCAL_RANK", "CUDA_VISIBLE_DEVICES")
    for node in (0, 1):
        assert len(said[node]) == 2, "two of its own on each node"
        found = [json.loads(line) for line in said[node]]
        assert [[rank[name] for name in names] for rank in found] == [[str(node), "2", "0", "0,1"]] * 2
        assert [rank["MASTER_ADDR"] for rank in found] == [json.loads(said[0][0])["host"]] * 2


NODE = """\
for _ in 1 2; do "$1" rank.py & done
wait
"""


def test_a_warning_reaches_what_torchrun_started(login: Login) -> None:
    """USR2 before the time limit is for the payload; torchrun itself does not end by it. Also on local."""
    login.project({"listen.py": LISTENS})
    torchrun = {"type": "pytorch", "launcher": "torchrun", "process_count": 2}
    config = {"script": "listen.py", "distributed_job_config": torchrun, "resources": {"memory": "1G"}}
    there = login.submit(config)
    here = login.submit(config, "-t", "local")
    for run in (there, here):
        for rank in (0, 1):
            login.until_logged(run, "ready", rank)
    login.slurm("scancel", "--signal=USR2", there["job_id"])
    script_of(login, here).signal(signal.SIGUSR2)
    for run in login.wait(there, here):
        assert how_it_ended(run)[::2] == ("Completed", 0)
        assert [login.log(run, rank) for rank in (0, 1)] == ["ready\ngot 12\n"] * 2


LISTENS = """\
import signal, time
got = []
signal.signal(signal.SIGUSR2, lambda number, frame: got.append(number))
print("ready", flush=True)
while not got:
    time.sleep(0.05)
time.sleep(0.5)
print("got", *got, flush=True)
"""


def script_of(login: Login, run: Document) -> Process:
    """The process that runs a local run's script."""
    asked = f"{run['run_dir']}/job.sh".encode()
    for process in login.cluster.processes("login", "bash", "alice"):
        if Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")[-2] == asked:
            return process
    raise AssertionError(f"no process runs {asked!r}")


def test_accelerate_by_srun_and_by_its_own_launcher(login: Login) -> None:
    """The example as it is, and the recipe that has "accelerate launch" start the processes of each node."""
    example = login.example("accelerate")
    sets = ("resources.gpus_per_node=0", "distributed.pytorch.process_count=2")
    shown = [word for each in sets for word in ("--set", each)]
    by_srun = login.json("submit", f"{example}/run.yaml", "-t", "virtual", *shown)
    launch = (
        "accelerate launch --multi_gpu --num_machines=$WORLD_SIZE --machine_rank=$NODE_RANK "
        "--num_processes=$((2 * WORLD_SIZE)) --mixed_precision=no --dynamo_backend=no "
        "--main_process_ip=$MASTER_ADDR --main_process_port=$MASTER_PORT train.py"
    )
    config = {
        "command": launch,
        "distributed_job_config": {"type": "pytorch", "node_count": 1, "communication_backend": "gloo"},
        "environment": {"setup": f"export PATH={Path(sys.executable).parent}:$PATH"},
        "resources": {"memory": "2G"},
    }
    by_launch = login.submit(config, project=example)
    for run in login.wait(by_srun, by_launch, timeout=240):
        assert how_it_ended(run) == ("Completed", "", 0), login.log(run, 0)
        assert login.read(run, "outputs/summary.txt").startswith("processes 2, loss 0.")
    for rank in (0, 1):
        assert login.log(by_srun, rank).splitlines()[-1].startswith(f"{rank} of 2, epoch 2: loss 0.")


@pytest.mark.parametrize("suite", ["bookworm", "sid"])
def test_slurms_older_and_newer(boot_cluster: BootCluster, suite: str) -> None:
    """Slurm 22.05, and one whose srun has no PMIx, so that MPI's processes are for mpirun to start."""
    login = Login(boot_cluster(slurm=suite, nodes=2))
    example = login.example("tensorflow")
    python = f"environment.python.interpreter_path={SYSTEM_PYTHON}"
    runs = [login.json("submit", f"{example}/run.yaml", "-t", "virtual", "--set", python)]
    if suite == "sid":
        login.project({"rank.py": RANK})
        login.add_site("other", scheduler=BY_MPIRUN, environment_variables=OVERSUBSCRIBED)
        dist = {"type": "mpi", "node_count": 2, "process_count_per_node": 2}
        config = {"script": "rank.py", "distributed_job_config": dist, "environment": DEBIANS}
        runs.append(login.submit(config, "-t", "other"))
    runs = login.wait(*runs)
    for run in runs:
        assert how_it_ended(run) == ("Completed", "", 0), login.log(run, 0)
    assert "talked to ps 0, worker 1" in login.log(runs[0], 0)
    if suite == "sid":
        places = [[int(rank[name]) for name in NAMES[:5]] for rank in found_by(login, runs[1], 4)]
        assert places == [[0, 4, 0, 2, 0], [1, 4, 1, 2, 0], [2, 4, 0, 2, 1], [3, 4, 1, 2, 1]]
