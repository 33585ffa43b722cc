"""The virtual cluster is what it says it is: real, breakable, and gone afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster import Cluster, ClusterError, CommandError, procs
from tests.cluster.fixtures import BootCluster
from tests.cluster.instance import clean_stale
from tests.cluster.layout import CHECKOUT
from tests.cluster.rootfs import CACHE

pytestmark = pytest.mark.cluster


def submit(cluster: Cluster, *argv: str, user: str = "alice") -> str:
    """Submit a batch job; its id."""
    return cluster.run("login", ["sbatch", "--parsable", *argv], user=user).stdout.strip()


def job_state(cluster: Cluster, job: str) -> str:
    """The state word that scontrol has for a job."""
    told = cluster.run("login", ["scontrol", "show", "job", job]).stdout
    return next(w.removeprefix("JobState=") for w in told.split() if w.startswith("JobState="))


def wait_state(cluster: Cluster, job: str, *states: str, timeout: float = 20) -> None:
    """Wait until a job is in one of the states."""
    cluster.wait_for(lambda: job_state(cluster, job) in states, timeout, f"job {job} to be {states}")


# -- jobs ----------------------------------------------------------------------


def test_all_nodes_are_idle_in_every_partition(cluster: Cluster) -> None:
    told = cluster.run("login", ["sinfo", "-h", "-o", "%P %D %t %l"]).stdout
    assert told.splitlines() == ["main* 3 idle 1-00:00:00", "short 3 idle 10:00", "preempt 3 idle 1:00:00"]


def test_srun_runs_on_three_nodes_as_alice(cluster: Cluster) -> None:
    told = cluster.run("login", ["srun", "-N3", "sh", "-c", "echo $(hostname) $(id -un)"]).stdout
    assert sorted(told.splitlines()) == ["node1 alice", "node2 alice", "node3 alice"]


def test_sbatch_writes_to_the_shared_home_and_sacct_knows_it(cluster: Cluster) -> None:
    job = submit(cluster, "--output=out.txt", "--wrap=echo hello; exit 3")
    asked = ["sacct", "-X", "-n", "-P", "-o", "state,exitcode,account", "-j", job]
    done = "FAILED|3:0|lab"
    cluster.wait_for(lambda: cluster.run("login", asked).stdout.strip() == done, 20, f"sacct: {done}")
    assert (cluster.home() / "out.txt").read_text() == "hello\n"


@pytest.mark.parametrize("wrong", ["--account=other", "--partition=none", "--qos=none", "--nodes=9"])
def test_what_a_site_refuses_is_refused(cluster: Cluster, wrong: str) -> None:
    with pytest.raises(CommandError):
        submit(cluster, wrong, "--wrap=true")


@pytest.mark.parametrize("asked", ["--gres=gpu:2", "--gres=gpu:fake:2", "--gpus-per-node=2"])
def test_gpus_are_allocated(cluster: Cluster, asked: str) -> None:
    told = cluster.run("login", ["srun", asked, "sh", "-c", "echo $CUDA_VISIBLE_DEVICES"])
    assert told.stdout.strip() == "0,1"


def test_apptainer_runs_the_image_in_a_job(cluster: Cluster) -> None:
    python = ["python3", "-c", "import os, json, ssl; print(os.getuid())"]
    told = cluster.run("login", ["srun", "apptainer", "exec", cluster.sif, *python])
    assert told.stdout.strip() == "2001"


def test_mpi4py_sees_two_ranks_on_two_nodes(cluster: Cluster) -> None:
    code = "from mpi4py import MPI; w = MPI.COMM_WORLD; print(w.allreduce(1), MPI.Get_processor_name())"
    told = cluster.run("login", ["srun", "-N2", "--mpi=pmix", "/usr/bin/python3", "-c", code])
    assert sorted(told.stdout.splitlines()) == ["2 node1", "2 node2"]


def test_the_tests_own_python_and_checkout_are_there(cluster: Cluster) -> None:
    code = "import sys, pytest; print(sys.prefix)"
    told = cluster.run("login", ["srun", "-N1", "python", "-c", code], venv=True)
    assert told.stdout.strip() == sys.prefix
    assert cluster.run("node3", ["ls", str(CHECKOUT / "tests/cluster")]).stdout
    assert cluster.run("node3", ["touch", str(CHECKOUT / "x")], user="root", check=False).returncode


def test_too_much_memory_ends_a_job(cluster: Cluster) -> None:
    hog = "import time; x = bytearray(400_000_000); time.sleep(30)"
    job = submit(cluster, "--mem=50", "--output=log", f"--wrap=/usr/bin/python3 -c '{hog}'")
    # OUT_OF_MEMORY is a word of the cgroup plugins only; see README.md.
    wait_state(cluster, job, "FAILED")
    assert "exceeded memory limit" in (cluster.home() / "log").read_text()


def test_a_requeued_job_runs_again(cluster: Cluster) -> None:
    job = submit(cluster, "--requeue", "--wrap=echo x >> runs; sleep 60")
    cluster.wait_for(lambda: (cluster.home() / "runs").exists(), 20, "the first start")
    cluster.run("login", ["scontrol", "requeue", job])
    cluster.run("ctl", ["scontrol", "update", f"jobid={job}", "starttime=now"], user="root", check=False)
    assert job_state(cluster, job) in ("PENDING", "COMPLETING", "RUNNING")


# -- ways in -------------------------------------------------------------------


def test_ssh_from_this_machine(cluster: Cluster) -> None:
    told = procs.call(cluster.ssh_argv("hostname; id -un"))
    assert told.stdout.split() == ["login", "alice"]


def test_a_changed_host_key_is_refused_and_reset_brings_back_trust(cluster: Cluster) -> None:
    cluster.change_host_key()
    refused = procs.call(cluster.ssh_argv("true"), check=False)
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in refused.stderr
    cluster.reset()
    procs.call(cluster.ssh_argv("true"))


def test_sshd_takes_a_tests_own_configuration(cluster: Cluster) -> None:
    cluster.configure_sshd("DenyUsers alice")
    assert procs.call(cluster.ssh_argv("true"), check=False).returncode == 255
    procs.call(cluster.ssh_argv("true", user="bob"))


def test_sshd_asks_for_a_code_that_is_good_once(cluster: Cluster, tmp_path: Path) -> None:
    cluster.ask_one_time_code("111", "222")
    ask = tmp_path / "ask"
    ask.write_text("#!/bin/sh\necho 222\n")
    ask.chmod(0o755)
    env = {**os.environ, "SSH_ASKPASS": f"{ask}", "SSH_ASKPASS_REQUIRE": "force"}
    procs.call(cluster.ssh_argv("true", batch=False), env=env)
    refused = procs.call(cluster.ssh_argv("true", batch=False), env=env, check=False)
    assert "Permission denied" in refused.stderr


def test_a_relay_cuts_delays_and_swallows(cluster: Cluster) -> None:
    print_much = "head -c 3000000 /dev/zero"
    with cluster.relay(latency=0.05) as relay:
        through = ["-p", f"{relay.port}", "-o", f"HostKeyAlias={cluster.ssh_address}", "127.0.0.1"]
        argv = [*cluster.ssh_argv()[:-1], "-l", "alice", *through]
        started = time.monotonic()
        assert procs.call([*argv, "hostname"]).stdout == "login\n"
        assert time.monotonic() - started > 0.4
        relay.latency, relay.cut_down = 0, 1_000_000
        cut = procs.call([*argv, print_much], check=False)
        assert cut.returncode == 255
        assert 0 < len(cut.stdout) < 1_000_000
        assert relay.connections == 2
        relay.black_hole = True
        deaf = procs.call([*argv[:-1], "-o", "ConnectTimeout=1", argv[-1], "true"], check=False)
        assert "timed out" in deaf.stderr


def test_run_passes_input_environment_and_folder_and_shows_what_failed(cluster: Cluster) -> None:
    shown = ["sh", "-c", "cat; echo $X; pwd; exit 4"]
    with pytest.raises(CommandError, match=r"exit status 4[^$]*in\nenv v\n/scratch"):
        cluster.run("node1", shown, user="bob", env={"X": "env v"}, cwd="/scratch", stdin="in\n")


def test_a_started_process_is_signalled_within_its_host(cluster: Cluster) -> None:
    script = "sleep 99 & trap 'kill $!; exit 7' TERM; echo on; wait"
    process = cluster.popen("login", ["sh", "-c", script])
    assert process.popen.stdout is not None
    assert process.popen.stdout.readline() == "on\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 7
    sleeper = cluster.popen("login", ["sleep", "1000"])
    cluster.wait_for(lambda: cluster.processes("login", "sleep", "alice"), 10, "sleep to start")
    sleeper.kill()
    cluster.wait_for(lambda: not cluster.processes("login", "sleep", "alice"), 10, "sleep to be gone")


# -- faults --------------------------------------------------------------------


def test_a_hanging_controller_times_out_and_yet_queues_the_job(cluster: Cluster) -> None:
    controller = cluster.daemon("slurmctld")
    controller.stop()
    submitting = cluster.run("login", ["sbatch", "-J", "lost", "--wrap=true"], check=False)
    controller.cont()
    assert submitting.returncode == 1
    assert "Socket timed out" in submitting.stderr
    listed = ["squeue", "--noheader", "--states=all", "--name=lost", "--format=%j"]
    cluster.wait_for(lambda: cluster.run("login", listed).stdout.split() == ["lost"], 20, "the job")


def test_the_database_daemon_dies_and_comes_back(cluster: Cluster) -> None:
    database = cluster.daemon("slurmdbd")
    database.kill()
    assert cluster.run("login", ["sacct"], check=False, timeout=90).returncode == 1
    assert cluster.run("login", ["srun", "echo", "still"]).stdout == "still\n"
    database.start()
    cluster.run("login", ["sacct"])


def test_a_node_without_network_does_not_respond_and_recovers(cluster: Cluster) -> None:
    cluster.reconfigure({"SlurmdTimeout": "6"})
    cluster.link_down("node2")
    cluster.wait_for(lambda: "*" in cluster.node_states()["node2"], 40, "node2 to be missed")
    cluster.link_up("node2")
    cluster.wait_idle(40)


def test_a_controller_that_forgot_everything_numbers_jobs_from_one(cluster: Cluster) -> None:
    submit(cluster, "--wrap=true")
    cluster.restart_controller(clear_state=True)
    assert submit(cluster, "--wrap=true") == "1"


def test_the_small_disk_is_full_for_everybody(cluster: Cluster) -> None:
    fill = ["dd", "if=/dev/zero", "of=/small/big", "bs=1M", "count=9"]
    assert "No space left" in cluster.run("login", fill, check=False).stderr
    assert cluster.run("node3", ["touch", "/small/more"], check=False).returncode == 0
    assert (cluster.outside("/small") / "big").stat().st_size <= 5 << 20


def test_reset_leaves_no_trace_of_a_test(cluster: Cluster) -> None:
    job = submit(cluster, "-N3", "--wrap=trap '' TERM; sleep 500")
    wait_state(cluster, job, "RUNNING")
    submit(cluster, "--dependency=singleton", "--begin=now+1hour", "--wrap=true", user="bob")
    cluster.write("/home/alice/project/x.txt", "x")
    cluster.write("/tmp/left", "x", host="node1")
    cluster.hide("login", "/usr/bin/git")
    assert cluster.run("login", ["sh", "-c", "git"], check=False).returncode == 127
    cluster.run("ctl", ["scontrol", "update", "nodename=node1", "state=drain", "reason=x"], user="root")
    cluster.daemon("slurmd", "node3").kill()
    cluster.daemon("sshd", "ctl").start()
    cluster.reset()
    assert not cluster.run("login", ["squeue", "--noheader"]).stdout
    assert set(cluster.node_states().values()) == {"idle"}
    left = sorted(each.name for each in cluster.home().iterdir())
    assert left == [".bash_logout", ".bashrc", ".profile", ".ssh"]
    assert not cluster.outside("/tmp/left", "node1").exists()
    assert not cluster.daemon("sshd", "ctl").running()
    cluster.run("login", ["git", "--version"])


# -- coming and going ----------------------------------------------------------


def _traces(cluster: Cluster) -> list[str]:
    devices = [each.name for each in Path("/sys/class/net").iterdir()]
    prefixes = (cluster.instance.bridge, cluster.instance.link(""))
    links = [name for name in devices if name.startswith(prefixes)]
    mounted = Path("/proc/self/mounts").read_text().splitlines()
    mounts = [line for line in mounted if f"{cluster.folder}" in line]
    inits = [str(init.pid) for init in cluster.instance.inner.values() if init.alive()]
    return [*links, *mounts, *inits, *([str(cluster.folder)] if cluster.folder.exists() else [])]


def test_a_second_cluster_without_accounting_beside_the_first(
    cluster: Cluster, boot_cluster: BootCluster
) -> None:
    other = boot_cluster(accounting=False, nodes=1, private_home=("node1",))
    assert other.address("login") != cluster.address("login")
    assert "disabled" in other.run("login", ["sacct"], check=False).stderr
    assert other.run("login", ["srun", "hostname"]).stdout == "node1\n"
    other.write("/home/alice/here", "x")
    assert other.run("node1", ["ls", "/home/alice/here"], check=False).returncode != 0
    assert _traces(other)
    other.down()
    other.down()
    assert _traces(other) == []
    assert cluster.run("login", ["srun", "hostname"]).returncode == 0


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_cluster_goes_when_its_owner_is_ended(end: signal.Signals) -> None:
    code = (
        "import time; from tests.cluster import Cluster, Options\n"
        "c = Cluster.boot(Options(nodes=1, accounting=False), say=lambda line: None)\n"
        "print(c.number, flush=True); time.sleep(100)"
    )
    command = [sys.executable, "-c", code]
    env = {**os.environ, "HPCRUN_TEST_CACHE": str(CACHE)}
    with subprocess.Popen(command, cwd=CHECKOUT, env=env, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        number = int(owner.stdout.readline())
        found = Cluster.attach(number)
        owner.send_signal(end)
        assert owner.wait(30) != 0
    procs.wait_for(lambda: not any(i.alive() for i in found.instance.inner.values()), 10, "hosts to end")
    if end == signal.SIGKILL:
        assert number in clean_stale()
    assert _traces(found) == []


def test_waiting_in_vain_says_what_for() -> None:
    with pytest.raises(ClusterError, match="in vain for the moon; last answer: 0"):
        procs.wait_for(lambda: 0, 0.1, "the moon")
