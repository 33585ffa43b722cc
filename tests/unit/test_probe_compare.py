"""A site's file beside what the site says today; and what the small job tells."""

# ruff: noqa: E501 - a case of a table is a line
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.config.sites import read_site
from hpcrun.engine.doctor import read_text
from hpcrun.engine.probe import facts_of
from hpcrun.launchers.world import World
from hpcrun.models.site import Site
from hpcrun.probe.answers import Answer
from hpcrun.probe.compare import compare
from hpcrun.probe.facts import Facts, Folder
from hpcrun.probe.findings import Finding, worst_first
from hpcrun.probe.job import Stand, Wanted, job_script, judge, read_stand
from tests.unit.test_probe import said

FILE = """\
connection: {type: ssh, host: login}
scheduler: {mpi: pmix}
root: $SCRATCH/hpcrun
default_partition: main
default_account: lab
partitions:
  main: {max_time: 1d, max_nodes: 2, max_cpus_per_node: 4, max_memory_per_node: 4000M, gpus_per_node: 2}
  short:
  preempt:
"""
ROOT = Folder("/scratch/alice/hpcrun", True, True, "lustre", "1@o2ib:/fs", 10**9, 10**8)
WELL = replace(facts_of(said("trixie")), folders={"root": ROOT}, conda=())


def found(text: str = FILE, facts: Facts = WELL, skew: float = 0.0) -> list[Finding]:
    return compare(read_text("c", text), facts, skew)


def test_where_all_is_well_there_is_nothing_to_say() -> None:
    assert found() == []


def config(**changes: str) -> dict[str, Any]:
    return {"config": {**WELL.config, **changes}}


def program(*gone: str, **there: str) -> dict[str, Any]:
    return {"programs": {**{k: v for k, v in WELL.programs.items() if k not in gone}, **there}}


def root(**changes: Any) -> dict[str, Any]:
    return {"folders": {"root": replace(ROOT, **changes)}}


REFUSED = Answer(("sacct: error: Connection refused",), 1)


@pytest.mark.parametrize(
    ("level", "code", "message", "remedy", "text", "facts"),
    [
        # The file has changed, or was never right.
        ("problem", "Partition", "there is no partition gpu", "There are: main, short, preempt",
         FILE.replace("  short:", "  short:\n  gpu:"), {}),
        ("note", "Partition", "the file does not list short, preempt", "Runs there are refused",
         FILE.replace("  short:\n  preempt:\n", ""), {}),
        ("problem", "Partition", "there is no partition gone", "There are: main",
         FILE.partition("partitions:")[0].replace("main", "gone"), {}),
        ("problem", "Time", "main: the file says time 2-00:00:00, and Slurm allows 1d", "max_time: 1d",
         FILE.replace("1d", "2d"), {}),
        ("note", "Time", "main: the file says time 12:00:00, and Slurm allows 1d", "if runs may use it",
         FILE.replace("1d", "12h"), {}),
        ("problem", "Nodes", "nodes 3, and Slurm allows 2", "max_nodes: 2", FILE.replace("nodes: 2", "nodes: 3"), {}),
        ("problem", "CPUs", "CPUs a node 8, and Slurm allows 4", "4", FILE.replace("cpus_per_node: 4", "cpus_per_node: 8"), {}),
        ("problem", "Memory", "memory a node 5000M, and Slurm allows 4000M", "4000M", FILE.replace("4000M", "5000M"), {}),
        ("problem", "GPUs", "GPUs a node 4, and Slurm allows 2", "2", FILE.replace("gpus_per_node: 2", "gpus_per_node: 4"), {}),
        ("problem", "GPUs", "main: there are no GPUs of type a100", "There are: fake",
         FILE.replace("gpus_per_node: 2", "gpu_types: [a100, Fake]"), {}),
        ("problem", "MPI", "srun does not offer the plug-in pmix_v9; it offers pmix", "{mpi: pmix}",
         FILE.replace("pmix", "pmix_v9"), {}),
        ("problem", "Array", "arrays of 9999, and Slurm's MaxArraySize is 1001", "max_array_size: 1001",
         FILE.replace("mpi: pmix", "max_array_size: 9999"), {}),
        ("problem", "Account", "you may not charge account old", "You may charge: lab",
         FILE.replace("lab", "old"), {}),
        ("problem", "Account", "you may not charge account old", "lab", FILE + "defaults: {account: old}\n", {}),
        ("problem", "QOS", "you may not use QOS gold", "You may use: high, normal", FILE + "defaults: {qos: gold}\n", {}),
        ("note", "Accounting", "sacct works", "{accounting: true}", FILE.replace("mpi: pmix", "accounting: false"), {}),
        ("problem", "Conda", "there is no /opt/conda/etc/profile.d/conda.sh", "No other", FILE + "conda: {root: /opt/conda}\n", {}),
        ("note", "Root", "the file says no root: runs lie in ~/.hpcrun", "$SCRATCH/hpcrun", FILE.replace("root: $SCRATCH/hpcrun\n", ""), {}),
        ("note", "Login", "the login node is called login, which none of login_nodes fits", "Add login",
         FILE.replace("host: login", "host: login, login_nodes: [int*]"), {}),
        ("warning", "Container", "there is no podman", "module", FILE + "apptainer: {executable: podman}\n",
         program("apptainer", "singularity")),
        # The cluster has.
        ("problem", "Array", "arrays of 1001, and Slurm's MaxArraySize is 500", "max_array_size: 500", FILE, config(MaxArraySize="500")),
        ("problem", "Accounting", "keeps no accounts of jobs", "{accounting: false}", FILE, config(AccountingStorageType="accounting_storage/none")),
        ("problem", "Accounting", "keeps no accounts of jobs", "{accounting: false}", FILE, {"config": {"ClusterName": "x", "MaxArraySize": "1001"}}),
        ("warning", "Accounting", "sacct does not answer: sacct: error: Connection refused", "squeue", FILE, {"sacct": REFUSED}),
        ("problem", "MPI", "srun does not offer the plug-in pmix; it offers pmi2", "{mpi: pmi2}", FILE, {"mpi": ("none", "pmi2")}),
        ("problem", "Account", "Slurm knows no account of alice", "expired", FILE, {"accounts": ()}),
        ("problem", "Programs", "neither git nor rsync", "module", FILE, program("git", "rsync")),
        ("note", "Programs", "there is no git: code is brought there by rsync", "module", FILE, program("git")),
        ("warning", "Programs", "there is no rsync", "module", FILE, program("rsync")),
        ("problem", "Programs", "there is no bash", "", FILE, program("bash")),
        ("problem", "Container", "there is no apptainer, but singularity", "{executable: singularity}",
         FILE + "apptainer: {binds: [/x]}\n", program("apptainer")),
        ("note", "Container", "there is no apptainer, but singularity", "{executable: singularity}", FILE, program("apptainer")),
        ("note", "Conda", "there is a conda in /opt/c, of which the file says nothing", "conda: {root: /opt/c}", FILE, {"conda": ("/opt/c",)}),
        ("problem", "Root", "/scratch/alice/hpcrun cannot be written", "quota", FILE, root(writable=False)),
        ("problem", "Root", "/scratch/alice/hpcrun cannot be made", "quota", FILE, root(writable=False, there=False)),
        ("note", "Root", "/scratch/alice/hpcrun is not there yet", "", FILE, root(there=False)),
        ("problem", "Root", "root is no path there: $SCRATCH/hpcrun", "in a login shell", FILE,
         {**root(path="$SCRATCH/hpcrun"), "profile": {"SCRATCH": "/scratch/alice"}}),
        ("warning", "Root", "looks like this machine's own (xfs)", "site check c --job", FILE, root(type="xfs", device="/dev/sda")),
        ("warning", "Disk", "/scratch/alice/hpcrun: 9.5 MiB left", "history gc", FILE, root(free=9765)),
        ("problem", "Disk", "/scratch/alice/hpcrun: 0 B left", "history gc", FILE, root(free=-5)),
        ("problem", "Login", "on PATH in a login shell only", "{login_shell: true}", FILE, {"by_login": True}),
        ("problem", "Slurm", "there is no Slurm", "bash_profile", FILE, {"slurm": "", "answered": False}),
        ("problem", "Slurm", "Slurm's controller does not answer: scontrol: error: refused", "scontrol ping", FILE,
         {"answered": False, "partitions": {}, "trouble": "scontrol: error: refused"}),
    ],
)  # fmt: skip
def test_what_is_found(
    level: str, code: str, message: str, remedy: str, text: str, facts: Mapping[str, Any]
) -> None:
    """One thing is wrong, and one finding says so, at its place in the file, with its remedy."""
    report = found(text, replace(WELL, **facts))
    (one,) = [each for each in report if message in each.message]
    assert (one.level, one.code) == (level, code) and remedy in one.next
    assert all(each == one or each.level == "note" for each in report), report


def test_partitions_that_are_down_or_closed() -> None:
    text = said("trixie").replace("State=UP", "State=DOWN", 1)
    text = text.replace(
        "PartitionName=short AllowGroups=ALL AllowAccounts=ALL", "PartitionName=short AllowAccounts=boss"
    )
    report = found(facts=replace(facts_of(text), folders={"root": ROOT}))
    assert [(each.level, each.message) for each in report] == [
        ("warning", "partition main is DOWN"),
        ("warning", "partition short is not for you: only for account boss"),
    ]
    (default,) = found(
        FILE.replace("default_partition: main", "default_partition: short"),
        replace(facts_of(text.replace("State=DOWN", "State=UP")), folders={"root": ROOT}),
    )[1:]
    assert (default.level, default.path) == ("problem", ("default_partition",))


@pytest.mark.parametrize(
    ("skew", "words"), [(75.0, "1m 15s ahead of"), (-3600.0, "1h behind"), (59.0, ""), (-60.0, "")]
)
def test_a_clock_that_is_wrong(skew: float, words: str) -> None:
    report = found(skew=skew)
    assert [each.code for each in report] == (["Clock"] if words else [])
    assert all(words in each.message for each in report)


def test_each_finding_is_at_its_place_in_the_file(tmp_path: Path) -> None:
    """Or at that of what it lies in."""
    path = tmp_path / "c.yaml"
    path.write_text(FILE.replace("1d", "2d").replace("  short:\n", "").replace("mpi: pmix", "mpi: x"))
    report = compare(read_site(path), WELL)
    places = {each.code: each.where.rpartition("c.yaml")[2] for each in report}
    assert places == {"Time": ":7:20", "MPI": ":2:18", "Partition": ":7:3"}


def test_the_site_of_this_machine_is_asked_nothing_of_slurm() -> None:
    facts = replace(WELL, slurm="", answered=False, partitions={}, folders={})
    assert found("scheduler: {type: local}\n", facts) == []


@given(st.builds(Finding, st.sampled_from(["ok", "note", "warning", "problem"]), st.just("Job"), st.text()))
def test_the_worst_comes_first(one: Finding) -> None:
    note = Finding("note", "Job", "x")
    assert worst_first([note, one])[0] == (one if one.level in ("problem", "warning") else note)


# -- the job ------------------------------------------------------------------


def site(**scheduler: Any) -> Site:
    return read_text(
        "c", FILE.replace("{mpi: pmix}", str({"mpi": "pmix", **scheduler}).replace("True", "true"))
    )


def test_the_script_of_the_job() -> None:
    script = job_script(
        site(
            gpu_directive="gpus-per-node",
            node_address_suffix="; touch x",
            sbatch={"hint": "nomultithread", "x": True},
        ),
        Wanted(partition="short", nodes=3, gpus=1, account="o'ther"),
        "hpcrun-site-check-1",
    )
    head = script.partition("\nmpi=")[0].splitlines()
    assert head == [
        "#!/bin/sh",
        "#SBATCH --job-name=hpcrun-site-check-1",
        "#SBATCH --output=/dev/null",
        "#SBATCH --chdir=/",
        "#SBATCH --nodes=3",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --time=00:05:00",
        "#SBATCH --partition=short",
        '#SBATCH --account="o\'ther"',
        "#SBATCH --gpus-per-node=1",
        "#SBATCH --hint=nomultithread",
        "#SBATCH --x",
    ]
    by_srun = 'world() { timeout 90 srun $mpi "$@"; }'
    assert f"\nmpi=--mpi=pmix\n{by_srun}\nsuffix='; touch x'\n" in script
    assert f"\nmpi=''\n{by_srun}\n" in job_script(site(mpi="default"), Wanted(), "n")
    by_mpirun = job_script(site(mpi="mpirun", mpirun={"bind-to": "none"}), Wanted(nodes=3), "n")
    assert "\nmpi=''\nworld() { timeout 90 mpirun -n 3 --bind-to none \"$@\"; }\n" in by_mpirun
    assert "--gres=gpu:2\n" in job_script(site(), Wanted(gpus=2), "n")


def ranks(**changes: str) -> dict[int, dict[str, str]]:
    usual = {"size": "2", "pmi": "pmix", "root": "yes", "network": "well", "gpus": "0,1", "time": "100"}
    return {0: {**usual, "node": "n1"}, 1: {**usual, "node": "n2", **changes}}


WORLD = World(2, "pmix", "Open MPI v5.0.7")
ALONE = replace(WORLD, size=1)
GOOD = Stand(done=True, ranks=ranks(), srun=0, worlds=(WORLD, WORLD))


def levels(stand: Stand, **scheduler: Any) -> dict[str, str]:
    """What was found beside what is well."""
    report = judge(site(**scheduler), Wanted(gpus=2), stand)
    return {each.code: f"{each.level}: {each.message}" for each in report if each.level != "ok"}


def test_a_job_that_found_all_well() -> None:
    report = judge(site(), Wanted(gpus=2), GOOD)
    assert {each.level for each in report} == {"ok"}
    assert [each.code for each in report] == ["Ranks", "MPI", "Root", "Network", "GPUs", "GPUs", "Clock"]


@pytest.mark.parametrize(
    ("stand", "code", "words"),
    [
        (replace(GOOD, ranks={0: ranks()[0]}, srun=1, said="srun: error: mpi"), "Ranks", "problem: of 2 processes 1 came up; srun ended with exit code 1"),
        (replace(GOOD, ranks=ranks(size="1")), "Ranks", "problem: srun --mpi=pmix: processes think that they are 1, 2"),
        (replace(GOOD, worlds=(ALONE, ALONE)), "MPI", "warning: mpi4py of the system's python3 saw worlds of 1, 1, not of 2"),
        (replace(GOOD, worlds=()), "MPI", "warning: mpi4py of the system's python3 saw no world at all"),
        (replace(GOOD, worlds=None), "MPI", "note: no MPI program was tried"),
        (replace(GOOD, worlds=None, ranks=ranks(pmi="")), "MPI", "warning: srun --mpi=pmix gives its processes no PMI"),
        (replace(GOOD, ranks=ranks(root="no")), "Root", "problem: not every node sees what was written to root on the login node: n2"),
        (replace(GOOD, ranks=ranks(network="n1.ib does not answer: timed out")), "Network", "problem: from n2: n1.ib does not answer: timed out"),
        (replace(GOOD, ranks=ranks(gpus="0")), "GPUs", "problem: n2: 2 were asked for, and CUDA_VISIBLE_DEVICES names 1"),
        (replace(GOOD, ranks=ranks(smi="0")), "GPUs", "problem: n2: 2 were given, and nvidia-smi sees 0"),
        (replace(GOOD, ranks=ranks(time="500")), "Clock", "warning: the nodes' clocks are up to 400 s apart"),
        (Stand(state="FAILED", reason="NonZeroExitCode", exit_code=41), "Root", "problem: the compute nodes do not see"),
        (Stand(state="TIMEOUT", reason="TimeLimit"), "Job", "problem: the job ended as TIMEOUT (TimeLimit), and said nothing"),
        (Stand(), "Job", "problem: the job ended, and said nothing"),
    ],
)  # fmt: skip
def test_what_the_job_finds(stand: Stand, code: str, words: str) -> None:
    report = levels(stand)
    assert report[code].startswith(words) and len(report) == 1


LOOKED = """\
done=yes
state=COMPLETED|None
exit=0:0
date=1795401398
= ranks
 srun: some noise
 hpcrun: 0 size=2
 hpcrun: 0 network=well
 hpcrun: 1 size=2
 hpcrun: 1 network=n1 does not answer: x=y
 hpcrun: srun 0

. 0
= world
 hpcrun: world=2 wants=pmix library=Open MPI v5.0.7
 hpcrun: world=2 wants=pmix library=Open MPI v5.0.7

. 0
"""


def test_what_the_job_said_is_read() -> None:
    stand = read_stand(LOOKED)
    assert stand.over and (stand.state, stand.exit_code, stand.srun, stand.worlds) == (
        "COMPLETED",
        0,
        0,
        (WORLD, WORLD),
    )
    assert stand.ranks == {
        0: {"size": "2", "network": "well"},
        1: {"size": "2", "network": "n1 does not answer: x=y"},
    }
    assert stand.said == "srun: some noise"
    waiting = read_stand("state=PENDING|Priority\nexit=0:0\ndate=1\n")
    assert not waiting.over and (waiting.state, waiting.reason) == ("PENDING", "Priority")


@given(
    st.lists(
        st.sampled_from([*LOOKED.splitlines(), "hpcrun: 9 x", " hpcrun: 999999999 a=b", "= ranks"])
        | st.text()
    )
)
def test_no_answer_breaks_the_judge(lines: list[str]) -> None:
    judge(site(), Wanted(gpus=1), read_stand("\n".join(lines)))
