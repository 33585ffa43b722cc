"""What the rendered script does when bash runs it: claims, exit codes, signals, ranks (3, 19, 20, 23)."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun import (
    Environment,
    MpiConfiguration,
    PyTorchConfiguration,
    ScriptRunConfig,
    TensorflowConfiguration,
)
from hpcrun.places.status import JobStatus, read_status
from tests.engine_help import PATIENCE, install, job, run_script, slurm_site, until


def command(text: str | list[str], **more: Any) -> ScriptRunConfig:
    return ScriptRunConfig(".", command=text, **more)


def log(folder: Path, name: str = "std_log.txt") -> str:
    return (folder / "user_logs" / name).read_text()


def status(folder: Path) -> JobStatus:
    found = read_status(folder / "status.json")
    assert found is not None
    return found


def test_it_says_what_it_did(weird_tmp_path: Path) -> None:
    folder = install(job(weird_tmp_path / "run", command("echo hello; echo oops >&2")), {})
    result = run_script(folder, {"HPCRUN_JOB_ID": "42"})
    assert result.rc == 0
    assert log(folder) == "hello\noops\n"
    raw = json.loads((folder / "status.json").read_text())
    assert raw.pop("started") <= raw.pop("ended")
    assert raw == {
        "version": 1,
        "run_id": "test_20260131-120000_abcdefgh",
        "job_id": "42",
        "attempt": 1,
        "state": "completed",
        "stage": "payload",
        "exit_code": 0,
        "signal": "",
        "nodes": socket.gethostname(),
        "message": "",
    }
    lines = (folder / "system_logs" / "attempts.jsonl").read_text().splitlines()
    attempts = [json.loads(line) for line in lines]
    assert [(a["state"], a["stage"]) for a in attempts] == [
        ("running", "prepare"),
        ("running", "payload"),
        ("completed", "payload"),
    ]
    assert not list(folder.glob(".status*"))


def test_every_process_finds_its_place_in_the_environment(tmp_path: Path) -> None:
    config = command("env | grep ^HPCRUN_ | sort; echo $PYTHONUNBUFFERED; pwd")
    made = job(tmp_path / "run", config, resume_path="/earlier/outputs")
    folder = install(made, {})
    run_script(folder)
    assert log(folder).splitlines() == [
        "HPCRUN_ATTEMPT=1",
        "HPCRUN_EXPERIMENT=test",
        "HPCRUN_JOB_ID=1",
        f"HPCRUN_LOG_DIR={folder}/code/logs",
        f"HPCRUN_NODES={socket.gethostname()}",
        f"HPCRUN_OUTPUT_DIR={folder}/code/outputs",
        "HPCRUN_RESUME_FROM=/earlier/outputs",
        f"HPCRUN_RUN_DIR={folder}",
        "HPCRUN_RUN_ID=test_20260131-120000_abcdefgh",
        "HPCRUN_TARGET=local",
        "1",
        f"{folder}/code",
    ]


@pytest.mark.parametrize(
    ("text", "code"),
    [("exit 7", 7), ("false | true", 1), ("kill -9 $$", 137), ("no_such_program_at_all", 127), ("true", 0)],
)
def test_the_payloads_own_exit_code_is_recorded(text: str, code: int, tmp_path: Path) -> None:
    folder = install(job(tmp_path / "run", command(text)), {})
    assert run_script(folder).rc == code
    assert status(folder).exit_code == code
    assert status(folder).state == ("completed" if code == 0 else "failed")


def test_a_second_job_leaves_and_a_requeued_one_stays(tmp_path: Path) -> None:
    folder = install(job(tmp_path / "run", command("echo once")), {})
    assert run_script(folder, {"HPCRUN_JOB_ID": "1"}).rc == 0
    before = (folder / "status.json").read_bytes()
    second = run_script(folder, {"HPCRUN_JOB_ID": "2"})
    assert second.rc == 102
    assert "job 2 leaves: the run belongs to job 1" in second.stdout
    assert (folder / "status.json").read_bytes() == before
    assert log(folder) == "once\n"
    assert run_script(folder, {"HPCRUN_JOB_ID": "1"}).rc == 0
    assert log(folder) == "once\nonce\n", "the log of a requeued run is appended to"


def test_of_many_jobs_at_once_one_runs(tmp_path: Path) -> None:
    folder = install(job(tmp_path / "run", command("echo once")), {})
    started = [
        subprocess.Popen(
            ["bash", folder / "job.sh"],
            env={**os.environ, "HPCRUN_JOB_ID": str(i)},
            stdout=subprocess.DEVNULL,
        )
        for i in range(8)
    ]
    assert sorted(process.wait(PATIENCE) for process in started) == [0, *[102] * 7]
    assert log(folder) == "once\n"


def test_a_missing_folder_is_an_end_with_a_code_of_its_own(tmp_path: Path) -> None:
    folder = install(job(tmp_path / "run", command("touch elsewhere")), {})
    (folder / "code").rmdir()
    result = run_script(folder)
    assert result.rc == 101
    assert "there is no folder" in result.stderr
    assert not (folder / "status.json").exists()


def test_folders_that_are_missing_are_made_first(tmp_path: Path) -> None:
    folder = install(job(tmp_path / "run", command("ls -d outputs logs ../metrics")), {})
    for name in ("user_logs", "system_logs"):
        (folder / name).rmdir()
    assert run_script(folder).rc == 0
    assert log(folder).split() == ["../metrics", "logs", "outputs"]


def started(folder: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        ["bash", folder / "job.sh"],
        env={**os.environ, "HPCRUN_JOB_ID": "1", "HPCRUN_KILL_WAIT": "1"},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    until(lambda: (folder / "code" / "outputs" / "ready").exists())
    return process


WAITS = "touch outputs/ready; while :; do sleep 0.02; done"


def test_a_signal_that_is_sent_to_the_script_reaches_the_payload(tmp_path: Path) -> None:
    text = f"trap 'echo checkpoint; exit 0' USR1; {WAITS}"
    folder = install(job(tmp_path / "run", command(text)), {})
    process = started(folder)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(PATIENCE) == 0
    assert log(folder) == "checkpoint\n"
    assert (status(folder).signal, status(folder).exit_code) == ("USR1", 0)


@pytest.mark.parametrize(("text", "code"), [(WAITS, 143), (f"trap 'exit 9' TERM; {WAITS}", 9)])
def test_how_the_payload_ended_after_term_is_recorded(text: str, code: int, tmp_path: Path) -> None:
    folder = install(job(tmp_path / "run", command(text)), {})
    process = started(folder)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(PATIENCE) == code
    assert (status(folder).signal, status(folder).exit_code) == ("TERM", code)


def test_a_payload_is_not_started_once_term_has_come(tmp_path: Path) -> None:
    setup = "hpcrun_status() { kill -s TERM $$; unset -f hpcrun_status; }"
    early = Environment("e", setup=setup)  # called last just before the payload
    folder = install(job(tmp_path / "run", command("touch outputs/started", environment=early)), {})
    assert run_script(folder).rc == 143
    assert not (folder / "code" / "outputs" / "started").exists()


RANK = """echo "$RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $NODE_RANK $MASTER_ADDR"
echo "$MASTER_PORT" >"$HPCRUN_OUTPUT_DIR/port.$RANK"
echo "$HPCRUN_COMMUNICATION_BACKEND"
"""


def ranks(text: str, number: int = 2) -> ScriptRunConfig:
    return command(text, distributed_job_config=PyTorchConfiguration("gloo", number, 1))


def test_local_ranks_know_their_places(tmp_path: Path) -> None:
    folder = install(job(tmp_path / "run", ranks(RANK, 3)), {})
    assert run_script(folder).rc == 0
    for rank in range(3):
        said = log(folder, f"std_log_process_{rank:03d}.txt")
        assert said == f"{rank} 3 {rank} 3 0 127.0.0.1\ngloo\n"
    ports = {(folder / "code" / "outputs" / f"port.{rank}").read_text() for rank in range(3)}
    assert len(ports) == 1 and 12000 <= int(ports.pop()) < 28000


def test_one_rank_that_fails_ends_the_others_even_those_that_will_not(tmp_path: Path) -> None:
    stubborn = f"[ $RANK = 1 ] || {{ trap '' TERM; {WAITS}; }}"
    text = f"{stubborn}; until [ -e outputs/ready ]; do sleep 0.02; done; exit 5"
    folder = install(job(tmp_path / "run", ranks(text)), {})
    assert run_script(folder, {"HPCRUN_KILL_WAIT": "1"}).rc == 5
    assert status(folder).exit_code == 5


def test_a_signal_does_not_end_ranks_that_take_it(tmp_path: Path) -> None:
    text = f"trap 'echo checkpoint; sleep 0.1; exit 0' USR1; touch outputs/ready.$RANK; {WAITS}"
    folder = install(job(tmp_path / "run", ranks(text)), {})
    process = started(folder)
    until(lambda: len(list((folder / "code" / "outputs").glob("ready.*"))) == 2)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(PATIENCE) == 0
    assert log(folder, "std_log_process_000.txt") == log(folder, "std_log_process_001.txt") == "checkpoint\n"


def test_ranks_that_end_at_once_and_all_together_are_all_counted(tmp_path: Path) -> None:
    folder = install(job(tmp_path / "run", ranks("exit $((RANK == 5 ? 7 : 0))", 6)), {})
    assert run_script(folder).rc == 7
    folder = install(job(tmp_path / "fine", ranks("true", 6)), {})
    assert run_script(folder).rc == 0


def test_ranks_that_mpirun_starts_know_their_places(tmp_path: Path) -> None:
    (tmp_path / "mpirun").write_text(
        '#!/bin/bash\n[ "$1" = -n ] && n=$2; shift 2\n'
        'for ((i = 0; i < n; i++)); do OMPI_COMM_WORLD_RANK=$i "$@" & done; wait\n'
    )
    (tmp_path / "mpirun").chmod(0o755)
    config = command(RANK, distributed_job_config=MpiConfiguration(2))
    folder = install(job(tmp_path / "run", config), {})
    assert run_script(folder, {"PATH": f"{tmp_path}:{os.environ['PATH']}"}).rc == 0
    assert log(folder, "std_log_process_001.txt").startswith("1 2 1 2 0 127.0.0.1\n")


TASK = """printf '%s\\n' "$TF_CONFIG" >"$HPCRUN_OUTPUT_DIR/task.$RANK"
echo "$RANK $WORLD_SIZE ${CUDA_VISIBLE_DEVICES-}"
[ "$RANK" -lt 2 ] || exec sleep 600
until [ -e "$HPCRUN_OUTPUT_DIR/task.2" ]; do sleep 0.05; done
"""


def test_local_tensorflow_tasks_know_each_other(tmp_path: Path) -> None:
    """A parameter server is ended when the workers have ended, and well; a worker's end is its own."""
    tensorflow = TensorflowConfiguration(2, 1)
    config = command(TASK, distributed_job_config=tensorflow, resources={"nodes": 1})
    folder = install(job(tmp_path / "run", config), {})
    assert run_script(folder).rc == 0
    texts = [(folder / "code" / "outputs" / f"task.{rank}").read_text() for rank in range(3)]
    tasks = [json.loads(text) for text in texts]
    assert [task.pop("task") for task in tasks] == [
        {"type": "worker", "index": 0}, {"type": "worker", "index": 1}, {"type": "ps", "index": 0}
    ]  # fmt: skip
    assert tasks[0] == tasks[1] == tasks[2] and tasks[0]["environment"] == "cloud"
    cluster = tasks[0]["cluster"]
    assert [len(cluster[kind]) for kind in ("worker", "ps")] == [2, 1]
    addresses = [*cluster["worker"], *cluster["ps"]]
    assert len(set(addresses)) == 3 and all(re.fullmatch(r"127\.0\.0\.1:\d+", a) for a in addresses)
    assert log(folder, "std_log_process_001.txt") == "1 3 \n"
    assert log(folder, "std_log_process_002.txt") == "2 3 -1\n", "the GPUs are the workers'"

    config = command('[ "$RANK" -ne 1 ] || exit 5; exec sleep 600', distributed_job_config=tensorflow)
    folder = install(job(tmp_path / "bad", config), {})
    assert run_script(folder, {"HPCRUN_KILL_WAIT": "1"}).rc == 5


def test_without_parameter_servers_there_are_none(tmp_path: Path) -> None:
    config = command('echo "$TF_CONFIG"', distributed_job_config=TensorflowConfiguration(1, 0))
    folder = install(job(tmp_path / "run", config), {})
    assert run_script(folder).rc == 0
    assert list(json.loads(log(folder, "std_log_process_000.txt"))["cluster"]) == ["worker"]


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a batch script in job 4711, with an srun that starts two ranks here."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "scontrol").write_text('#!/bin/sh\n[ "$3" = "n[1-2]" ] && printf "n1\\nn2\\n"\n')
    (programs / "srun").write_text(
        '#!/bin/bash\nwhile [ "${1#--}" != "$1" ]; do shift; done\n'
        "for i in 0 1; do SLURM_PROCID=$i SLURM_NTASKS=2 SLURM_LOCALID=0 SLURM_NODEID=$i"
        ' "$@" & done; wait\n'
    )
    for path in programs.iterdir():
        path.chmod(0o755)
    yield {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "n[1-2]",
    }


def port_of(tmp_path: Path, slurm: dict[str, str], name: str, suffix: str = ".ib") -> int:
    site = slurm_site(scheduler={"node_address_suffix": suffix})
    config = command(RANK, distributed_job_config=PyTorchConfiguration("gloo", 2, 2))
    folder = install(job(tmp_path / name, config, site), {})
    for old in (folder / "user_logs").iterdir():
        old.unlink()
    result = run_script(folder, slurm)
    assert result.rc == 0, result.stdout + result.stderr
    assert log(folder, "std_log_process_001.txt") == f"1 2 0 1 1 n1{suffix}\ngloo\n"
    return int((folder / "code" / "outputs" / "port.1").read_text())


def test_the_master_port_comes_from_the_job_id_and_is_free(tmp_path: Path, slurm: dict[str, str]) -> None:
    free = port_of(tmp_path, slurm, "free")
    assert free >= 12000 + 4711
    with socket.create_server(("127.0.0.1", free)):
        assert port_of(tmp_path, slurm, "free") > free, "reserved by this very run, and taken nonetheless"
    assert port_of(tmp_path, {**slurm, "SLURM_JOB_ID": "4712"}, "next") > free
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert free < 28000 <= low


def test_a_port_that_somebody_has_on_another_address_is_taken(tmp_path: Path, slurm: dict[str, str]) -> None:
    free = port_of(tmp_path, slurm, "free")
    with socket.create_server(("127.0.0.2", free)):
        assert port_of(tmp_path, slurm, "free") > free


def test_two_jobs_that_want_one_port_get_two(tmp_path: Path, slurm: dict[str, str]) -> None:
    """At the same moment, when neither listens yet; a job that is queued again keeps its own."""
    number = 4711 + os.getpid() % 1000
    one = port_of(tmp_path, {**slurm, "SLURM_JOB_ID": str(number)}, "one")
    two = port_of(tmp_path, {**slurm, "SLURM_JOB_ID": str(number + 16000)}, "two")
    assert one != two
    again = {**slurm, "SLURM_JOB_ID": str(number), "SLURM_RESTART_COUNT": "1"}
    assert port_of(tmp_path, again, "one") == one


def test_of_many_jobs_that_want_one_port_each_gets_its_own(tmp_path: Path, slurm: dict[str, str]) -> None:
    config = command(RANK, distributed_job_config=PyTorchConfiguration("gloo", 2, 2))
    folders = [install(job(tmp_path / str(i), config, slurm_site()), {}) for i in range(8)]
    number = str(9000 + os.getpid() % 1000)
    env = {**os.environ, **slurm, "SLURM_JOB_ID": number}
    started = [
        subprocess.Popen(["bash", folder / "job.sh"], env=env, stdout=subprocess.DEVNULL)
        for folder in folders
    ]
    assert [process.wait(PATIENCE) for process in started] == [0] * 8
    assert len({(folder / "code" / "outputs" / "port.1").read_text() for folder in folders}) == 8


def test_a_node_address_suffix_may_be_a_letter(tmp_path: Path, slurm: dict[str, str]) -> None:
    port_of(tmp_path, slurm, "letter", suffix="i")


def test_mpi_default_leaves_the_plug_in_to_srun(tmp_path: Path) -> None:
    config = command("true", distributed_job_config=MpiConfiguration(2))
    for mpi in ("pmi2", "default"):
        site = slurm_site(scheduler={"mpi": mpi})
        script = (install(job(tmp_path / mpi, config, site), {}) / "job.sh").read_text()
        assert ("--mpi=pmi2 " in script, "--mpi=" in script) == ((mpi == "pmi2"),) * 2


@pytest.mark.parametrize(
    ("mpi", "nodes", "ring"),
    [
        ("pmix", 2, True),
        ("pmix_v4", 2, True),
        ("default", 2, True),
        ("pmix", 1, False),
        ("pmi2", 2, False),
        ("mpirun", 2, False),
    ],
)
def test_over_several_nodes_pmix_lets_processes_go_by_its_ring(
    tmp_path: Path, mpi: str, nodes: int, ring: bool
) -> None:
    config = command("true", distributed_job_config=MpiConfiguration(2, nodes))
    site = slurm_site(scheduler={"mpi": mpi})
    script = (install(job(tmp_path, config, site), {}) / "job.sh").read_text()
    assert ('export SLURM_PMIX_FENCE="${SLURM_PMIX_FENCE:-ring}"\n' in script) == ring
    assert ("SLURM_PMIX_FENCE" in script) == ring


@pytest.mark.parametrize(("said", "heard"), [({}, "ring"), ({"SLURM_PMIX_FENCE": "tree"}, "tree")])
def test_the_fence_of_pmix_is_the_users_to_say(
    tmp_path: Path, slurm: dict[str, str], said: dict[str, str], heard: str
) -> None:
    config = command(
        "echo $SLURM_PMIX_FENCE >outputs/fence",
        distributed_job_config=MpiConfiguration(1, 2),
        environment_variables=said,
    )
    folder = install(job(tmp_path / "run", config, slurm_site(scheduler={"mpi": "pmix"})), {})
    assert run_script(folder, slurm).rc == 0
    assert (folder / "code" / "outputs" / "fence").read_text() == f"{heard}\n"


def test_a_requeue_is_the_next_attempt(tmp_path: Path, slurm: dict[str, str]) -> None:
    config = command("echo $HPCRUN_ATTEMPT $HPCRUN_JOB_ID")
    folder = install(job(tmp_path / "run", config, slurm_site()), {})
    (tmp_path / "programs" / "srun").write_text('#!/bin/bash\nexec "${@:7}"\n')
    assert run_script(folder, slurm).rc == 0
    assert run_script(folder, {**slurm, "SLURM_RESTART_COUNT": "1"}).rc == 0
    assert status(folder).attempt == 2
    assert "attempt 2 of" in run_script(folder, {**slurm, "SLURM_RESTART_COUNT": "1"}).stdout


def test_nodes_that_scontrol_does_not_name_are_a_failed_launch(tmp_path: Path, slurm: dict[str, str]) -> None:
    config = command(RANK, distributed_job_config=PyTorchConfiguration("gloo", 2, 2))
    folder = install(job(tmp_path / "run", config, slurm_site()), {})
    assert run_script(folder, {**slurm, "SLURM_JOB_NODELIST": "other"}).rc == 104
    assert (status(folder).stage, status(folder).exit_code) == ("launch", 104)
