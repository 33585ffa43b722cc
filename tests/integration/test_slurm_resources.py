"""What is asked for in a run's resources is what Slurm gives the job, layer over layer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.support import Document, Login, how_it_ended, job_fields, tres

pytestmark = pytest.mark.cluster

# The job asks Slurm about itself: that cannot come too early or too late.
ASK = """\
scontrol --oneliner show job "$SLURM_JOB_ID"
echo "cuda=${CUDA_VISIBLE_DEVICES-none}"
"""


def ask(login: Login, *options: str, project: str = "project", **resources: Any) -> Document:
    """Submit a run that asks Slurm about itself."""
    config = {"command": ASK, "resources": resources}
    return login.submit(config, *options, project=f"{login.home}/{project}")


def told(login: Login, run: Document) -> dict[str, str]:
    """What the run found out about its job."""
    assert how_it_ended(run) == ("Completed", "", 0), login.log(run)
    return job_fields(login.log(run))


def test_everything_asked_for_is_asked_of_slurm(login: Login) -> None:
    """Every key of resources at once, further options of sbatch included."""
    run = ask(
        login,
        nodes=2,
        tasks_per_node=2,
        cpus_per_task=2,
        gpus_per_node="fake:2",
        memory="600M",
        time="7m",
        partition="short",
        account="lab",
        qos="high",
        exclusive=True,
        sbatch={"comment": "for_the_record", "nice": 7, "no-requeue": True},
    )
    job = told(login, login.wait(run)[0])

    given = tres(job["ReqTRES"])
    assert (given["node"], given["cpu"], given["mem"], given["gres/gpu"]) == ("2", "8", "1200M", "4")
    assert job["TresPerNode"] in ("gres/gpu:fake:2", "gres:gpu:fake:2")
    assert (job["NumNodes"], job["CPUs/Task"], job["NumTasks"]) == ("2", "2", "4")
    assert (job["MinMemoryNode"], job["TimeLimit"]) == ("600M", "00:07:00")
    assert (job["Partition"], job["Account"], job["QOS"]) == ("short", "lab", "high")
    assert job["OverSubscribe"] == "NO"  # which is what exclusive comes to
    assert (job["Comment"], job["Nice"], job["Requeue"]) == ("for_the_record", "7", "0")
    assert job["cuda"] == "0,1"
    assert (job["JobName"], job["WorkDir"]) == (run["id"], run["run_dir"])


def test_each_layer_of_defaults_is_over_the_one_below(login: Login) -> None:
    """Site, then partition, then run.yaml, then --set, then the option with a name of its own."""
    site = ask(login)
    partition = ask(login, "-t", "virtual:short")
    in_file = ask(login, "-t", "virtual:short", time="3m", memory_per_cpu="120M")
    options = ask(login, "--set", "resources.cpus_per_task=3", "--time", "4m", "-p", "short", time="3m")
    jobs = [told(login, run) for run in login.wait(site, partition, in_file, options)]

    seen = [(job["Partition"], job["TimeLimit"], job["CPUs/Task"], job["Account"]) for job in jobs]
    assert seen == [
        ("main", "00:05:00", "1", "lab"),
        ("short", "00:02:00", "2", "lab"),
        ("short", "00:03:00", "2", "lab"),
        ("short", "00:04:00", "3", "lab"),
    ]
    assert [job.get("MinMemoryNode") for job in jobs] == ["300M", "300M", None, "300M"]
    assert jobs[2]["MinMemoryCPU"] == "120M"
    assert all(job["cuda"] == "none" for job in jobs)


def test_a_site_says_how_gpus_and_memory_are_asked_for(login: Login) -> None:
    """--gpus-per-node instead of --gres, no --mem where it is refused, options for every sbatch and srun."""
    scheduler = {
        "gpu_directive": "gpus-per-node",
        "memory_directive": "none",
        "sbatch": {"comment": "of_the_site"},
        "srun": {"label": True},
    }
    login.add_site("other", scheduler=scheduler)
    (run,) = login.wait(ask(login, "-t", "other", "--gpus-per-node", "1"))

    assert "#SBATCH --gpus-per-node=" in login.read(run, "job.sh")
    assert "--gres" not in login.read(run, "job.sh") and "--mem" not in login.read(run, "job.sh")
    job = told(login, run)
    assert (tres(job["ReqTRES"])["gres/gpu"], job["Comment"], job["cuda"]) == ("1", "of_the_site", "0")
    assert "srun --nodes=1" in login.read(run, "job.sh") and " --label " in login.read(run, "job.sh")
