"""``hpcrun site add`` and ``site check`` on real clusters: three Slurms, from the login node and over ssh."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hpcrun.engine.probe import facts_of
from hpcrun.probe.answers import script
from tests.cli_help import document, ended, program, read_until, refused, typed
from tests.cluster.cluster import Cluster
from tests.cluster.fixtures import BootCluster, of_suite
from tests.faults.test_ssh_login import Terminal
from tests.integration.support import SYSTEM_PYTHON, Document, Login, how_it_ended
from tests.ssh_help import SshdLog, end_masters, private_runtime, ssh_config
from tests.unit.test_docs_json import TABLES, keys

pytestmark = pytest.mark.cluster

VERSIONS = {"bookworm": "22.05.", "trixie": "24.11.", "sid": "2"}


TWO_NODES: Document = {
    "command": 'test "$WORLD_SIZE" = 2 && echo "rank $RANK"',
    "distributed_job_config": {"type": "mpi", "node_count": 2, "process_count_per_node": 1},
    "resources": {"time": "2m", "memory": "300M"},
    "environment": {"python": {"interpreter_path": SYSTEM_PYTHON}},
}


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from private_runtime(monkeypatch)


CHECKED = {key for key in TABLES["site check"] if not key.startswith("bandwidth[].")}
"""All keys of a report, where nothing was measured."""


def slurm_of(suite: str, boot_cluster: BootCluster) -> Login:
    """A login node of the Slurm of a Debian suite."""
    return Login(of_suite(suite, boot_cluster, nodes=2))


def codes(report: Document, *levels: str) -> list[str]:
    return [each["code"] for each in report["findings"] if each["level"] in levels]


def messages(report: Document) -> str:
    return "\n".join(f"{each['level']} {each['code']}: {each['message']}" for each in report["findings"])


@pytest.mark.parametrize("suite", VERSIONS)
def test_slurms_of_three_ages(suite: str, boot_cluster: BootCluster) -> None:
    """The file that is written needs no mending: it is right, and so a run and the job work."""
    login = slurm_of(suite, boot_cluster)
    added = login.json("site", "add", "found")
    assert added["slurm"].startswith(VERSIONS[suite]) and added["written"] and added["findings"] == []
    assert login.cat(added["path"]) == added["text"]

    report = login.json("site", "check", "found")
    assert (report["ok"], report["findings"], report["connection"]) == (True, [], None)

    run = login.finish(TWO_NODES, "-t", "found:short")
    assert how_it_ended(run) == ("Completed", "", 0), login.read(run, "system_logs/job.txt")
    assert [login.log(run, rank) for rank in (0, 1)] == ["rank 0\n", "rank 1\n"]

    tried = login.json("site", "check", "found:short", "--job", "--gpus", "2")
    assert codes(tried, "problem") == [], messages(tried)
    # sid's Slurm has no PMIx, the one that its Open MPI speaks: the job finds that out.
    assert codes(tried, "warning") == (["MPI"] if suite == "sid" else []), messages(tried)
    assert {"Ranks", "Root", "Network", "GPUs", "Clock"} <= set(codes(tried, "ok"))
    assert "hpcrun-site-check" not in login.cluster.run("login", ["ls", login.home]).stdout


@pytest.mark.parametrize("suite", VERSIONS)
def test_slurms_of_three_ages_from_a_laptop(
    suite: str, boot_cluster: BootCluster, sockets: Path, tmp_path: Path
) -> None:
    """The file is right there, too, and a run by it is brought home."""
    cluster = slurm_of(suite, boot_cluster).cluster
    config = str(ssh_config(cluster, tmp_path / "ssh"))
    added = document("site", "add", "far", "login", "--ssh-config", config)
    assert added["slurm"].startswith(VERSIONS[suite])
    assert codes(document("site", "check", "far"), "problem") == []
    Path("run.yaml").write_text(json.dumps(TWO_NODES))
    run = document("submit", "run.yaml", "-t", "far:short", "--wait")
    assert how_it_ended(run) == ("Completed", "", 0)
    logs = [Path(run["folder"], f"user_logs/std_log_process_00{rank}.txt").read_text() for rank in (0, 1)]
    assert logs == ["rank 0\n", "rank 1\n"]


def test_shells_that_are_not_alike(login: Login) -> None:
    """dash, busybox and bash put the same questions, and hear the same."""
    answers = []
    for shell in (["dash"], ["busybox", "sh"], ["bash", "--posix"]):
        words = ["-c", script("probe"), "x", "slurm", "$HOME/hpcrun", "", ""]
        done = login.cluster.run("login", [*shell, *words])
        facts = facts_of(done.stdout)
        assert facts.whole and facts.answered and done.stderr == "", shell
        answers.append((facts.partitions, facts.mpi, facts.programs, sorted(facts.folders), facts.modules))
    assert answers[0] == answers[1] == answers[2]


# -- from the login node ------------------------------------------------------


def test_what_has_changed_since(login: Login) -> None:
    """Each thing with its remedy; the file is left as it is."""
    login.json("site", "add", "c")
    path = f"{login.home}/.config/hpcrun/site_configs/c.yaml"
    text = login.cat(path)
    changed = (
        text.replace("  short:", "  gone:").replace("max_time: 1d", "max_time: 2d") + "conda: {root: /no}\n"
    )
    login.write(path, changed)
    login.cluster.reconfigure({"MaxArraySize": "50"})
    login.cluster.hide("login", "/usr/bin/git", "/usr/bin/rsync", "/usr/bin/apptainer")
    login.cluster.hide("login", "/usr/bin/singularity")

    report = login.json("site", "check", "c", check=False)
    assert not report["ok"] and sorted(codes(report, "problem")) == [
        *("Array", "Conda", "Partition", "Programs", "Time")
    ], messages(report)
    assert codes(report, "warning") == ["Container"]
    said = login.hpcrun("site", "check", "c", check=False)
    assert said.returncode == 3 and "there is no partition gone" in said.stdout
    assert "next: max_array_size: 50" in said.stdout and "5 problems, 1 warning" in said.stdout
    assert login.cat(path) == changed
    assert CHECKED - {"connection.host", "connection.was_open", "connection.milliseconds"} == set(
        keys(report, TABLES["site check"])
    )


def test_slurm_that_does_not_answer(login: Login) -> None:
    """site check says so; site add writes nothing."""
    login.json("site", "add", "c")
    login.cluster.daemon("slurmctld").kill()
    report = login.json("site", "check", "c", check=False)
    assert codes(report, "problem") == ["Slurm"], messages(report)
    assert "does not answer" in report["findings"][0]["message"]
    refused = login.hpcrun("site", "add", "d", check=False)
    assert refused.returncode == 8 and "Slurm does not answer" in refused.stderr
    assert not login.exists(f"{login.home}/.config/hpcrun/site_configs/d.yaml")


def test_a_cluster_without_accounting(boot_cluster: BootCluster) -> None:
    login = Login(boot_cluster(accounting=False, nodes=1))
    added = login.json("site", "add", "bare")
    assert "\n  accounting: false" in added["text"] and "default_account" not in added["text"]
    assert login.json("site", "check", "bare")["findings"] == []
    report = login.json("site", "check", "virtual", check=False)
    assert "Accounting" in codes(report, "problem"), messages(report)


def test_a_root_that_the_nodes_do_not_see(boot_cluster: BootCluster) -> None:
    """The whole job, or one of its processes."""
    login = Login(boot_cluster(nodes=2, private_home=("node1",)))
    text = login.json("site", "add", "apart")["text"]
    folder = f"{login.home}/.config/hpcrun/site_configs"
    login.write(f"{folder}/apart.yaml", f"{text}root: $HOME/hpcrun\n")
    report = login.json("site", "check", "apart", "--job", check=False)
    assert "the compute nodes do not see" in messages(report) and codes(report, "problem") == ["Root"]
    assert login.cluster.run("login", ["ls", "-A", f"{login.home}/hpcrun"]).stdout == ""

    login.write(f"{folder}/together.yaml", text.replace("name: apart", "") + "root: /scratch/$USER/hpcrun\n")
    report = login.json("site", "check", "together", "--job")
    assert codes(report, "problem") == [] and "Root" in codes(report, "ok"), messages(report)


def test_nodes_that_do_not_reach_each_other(login: Login) -> None:
    """By an address that is none; with a Python on the nodes, and without one."""
    login.add_site("fast", scheduler={"node_address_suffix": ".ib"})
    report = login.json("site", "check", "fast", "--job", check=False)
    assert codes(report, "problem") == ["Network", "Network"], messages(report)
    assert "from node1: node2.ib does not answer: " in messages(report)

    for node in ("node1", "node2", "node3"):
        login.cluster.hide(node, "/usr/bin/python3")
    report = login.json("site", "check", "fast", "--job", check=False)
    assert "from node2: node1.ib does not answer on port 6818" in messages(report)
    report = login.json("site", "check", "virtual", "--job")
    assert "nodes reach each other by their names (at slurmd's port" in messages(report), messages(report)


def test_a_job_that_cannot_be_or_that_waits(login: Login) -> None:
    """What Slurm says is told; a job that waits is canceled when the patience is over, and by Ctrl-C."""
    report = login.json("site", "check", "virtual", "--job", "-p", "nowhere", check=False)
    assert "Slurm refused the job: sbatch: error: " in messages(report), messages(report)

    login.slurm("sbatch", "--exclusive", "--nodes=3", "--time=5", "--wrap=sleep 300")
    argv = ("site", "check", "virtual", "--job", "--json")
    report = login.json(*argv[:-1], "--timeout", "3s", check=False)
    assert re.search(r"job \d+ was PENDING \(\w+\) after 3 s, and was canceled", messages(report)), messages(
        report
    )
    waiting = ["squeue", "--noheader", "--states=PENDING,RUNNING", "--format=%j"]
    assert login.slurm(*waiting).split() == ["wrap"]

    process = login.cluster.popen("login", login.argv(*argv), venv=True)
    login.cluster.wait_for(lambda: "hpcrun-site-check" in login.slurm(*waiting), 30, "the job to be queued")
    process.interrupt()
    assert process.wait(30) == 130
    assert login.slurm(*waiting).split() == ["wrap"]
    assert "hpcrun-site-check" not in login.cluster.run("login", ["ls", login.home]).stdout


# -- over ssh -----------------------------------------------------------------


@pytest.fixture
def config(cluster: Cluster, sockets: Path, tmp_path: Path) -> str:
    return str(ssh_config(cluster, tmp_path))


def test_a_site_from_a_laptop(cluster: Cluster, config: str) -> None:
    """One connection, one question; what is written is right, and says how to get there again."""
    log = SshdLog(cluster)
    added = document("site", "add", "far", "alice@login", "--ssh-config", config)
    assert log.logins == 1 and log.count(r"^Starting session: ") == 1
    assert added["slurm"].startswith("24.11") and added["hostname"] == "login"
    assert set(keys(added, TABLES["site add"])) >= {k for k in TABLES["site add"] if "findings[]." not in k}
    text = Path(added["path"]).read_text()
    for line in ("  host: login\n", "  user: alice\n", f"  ssh_config: {config}\n", "root: $HOME/hpcrun "):
        assert line in text

    report = document("site", "check", "far")
    assert report["ok"] and report["connection"]["host"] == "login" and report["connection"]["was_open"]
    assert 0 < report["connection"]["milliseconds"] < 5000
    # Its /home is this machine's own file system, as far as anybody can tell.
    assert [(each["code"], each["level"]) for each in report["findings"]] == [
        ("Root", "note"),
        ("Root", "warning"),
    ][::-1]
    assert "the connection to login was open; a question takes " in typed("site", "check", "far")
    assert set(keys(report, TABLES["site check"])) == CHECKED


def test_the_job_from_a_laptop(cluster: Cluster, config: str) -> None:
    document("site", "add", "far", "login", "--ssh-config", config)
    report = document("site", "check", "far:short", "--job", "--nodes", "3")
    assert codes(report, "problem") == [], messages(report)
    assert {"Ranks", "MPI", "Root", "Network", "Clock"} <= set(codes(report, "ok")), messages(report)
    assert "node1, node2, node3 see the same root" in messages(report)
    assert cluster.run("login", ["ls", "-A", "/home/alice/hpcrun"]).stdout == ""

    path = file_of_site("far")
    path.write_text(re.sub(r"(?m)^root: .*$", "", path.read_text()))
    report = document("site", "check", "far:short", "--job")
    assert "note Root: the file says no root: runs lie in ~/.hpcrun there" in messages(report)
    assert {"Ranks", "Root"} <= set(codes(report, "ok")) and codes(report, "problem") == [], messages(report)
    assert cluster.run("login", ["ls", "-A", "/home/alice/.hpcrun"]).stdout == ""


def test_by_fabric(cluster: Cluster, config: str) -> None:
    """The same site without the ssh program: a connection of its own, which nobody keeps."""
    document("site", "add", "far", "login", "--ssh-config", config)
    path = file_of_site("far")
    path.write_text(path.read_text().replace("type: ssh", "type: fabric"))
    report = document("site", "check", "far")
    assert codes(report, "problem") == [] and report["connection"]["was_open"] is None, messages(report)
    said = typed("site", "add", "far", "--force")
    assert said.startswith("wrote ") and "type: fabric" in path.read_text()


def test_ctrl_c_from_a_laptop(cluster: Cluster, config: str) -> None:
    """The job that waited ends, and its folder goes."""
    document("site", "add", "far", "login", "--ssh-config", config)
    cluster.run("login", ["sbatch", "--exclusive", "--nodes=3", "--time=5", "--wrap=sleep 300"])
    process = program("site", "check", "far", "--job")
    read_until(process.stderr, "PENDING")
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 130
    queue = cluster.run("login", ["squeue", "--noheader", "--states=PENDING,RUNNING", "--format=%j"]).stdout
    assert queue.split() == ["wrap"]
    assert cluster.run("login", ["ls", "-A", "/home/alice/hpcrun"]).stdout == ""


def test_a_file_is_printed_and_not_written(cluster: Cluster, config: str) -> None:
    """And one that is there is written anew by force alone, by the way that it names."""
    text = typed("site", "add", "far", "login", "--ssh-config", config, "--dry-run")
    assert text.startswith("# The site far, as it was found on ") and "\n  main: " in text
    assert document("site", "ls")["sites"] and "far" not in typed("site", "ls")

    typed("site", "add", "far", "login", "--ssh-config", config, "--workspace")
    path = Path("site_configs/far.yaml")
    assert path.read_text() == text
    path.write_text(
        text.replace("  main:", "  old:").replace("default_partition: main", "default_partition: old")
    )
    refused("site", "add", "far", "login", "--workspace", code=2)
    said = typed("site", "add", "far", "--workspace", "--force")
    assert yaml.safe_load(path.read_text()) == yaml.safe_load(text)
    assert said.startswith("wrote ") and "partitions main, short, preempt" in said


def test_commands_that_only_a_login_shell_finds(cluster: Cluster, config: str) -> None:
    """Slurm's are looked for there, too, and the file says so; where it does not, site check does."""
    folder = "/home/alice/slurm"
    cluster.write("/home/alice/.bash_profile", f"echo noise\nexport PATH={folder}:$PATH SCRATCH=/scratch\n")
    names = ("sbatch", "srun", "squeue", "sacct", "sacctmgr", "scontrol", "sinfo", "scancel")
    for name in names:
        real = cluster.run("login", ["which", name]).stdout.strip()
        cluster.write(f"{folder}/{name}", f'#!/bin/sh\nexec {real}.hidden "$@"\n', mode=0o755)
        cluster.hide("login", real)
    added = document("site", "add", "far", "login", "--ssh-config", config)
    assert "\n  login_shell: true " in added["text"] and "root: /scratch/hpcrun " in added["text"]
    assert codes(document("site", "check", "far"), "problem") == []

    path = Path(added["path"])
    path.write_text(added["text"].replace("login_shell: true", "login_shell: false"))
    report = document("site", "check", "far", code=3)
    assert codes(report, "problem") == ["Login"], messages(report)


def test_a_profile_that_leaves_something_running(cluster: Cluster, config: str) -> None:
    """It holds what it was given open; nobody waits for it."""
    cluster.write("/home/alice/.bash_profile", "sleep 600 &\n")
    listing = ["sh", "-c", "ls -d /tmp/tmp.* || :"]
    before = cluster.run("login", listing).stdout
    began = time.monotonic()
    added = document("site", "add", "far", "login", "--ssh-config", config)
    assert time.monotonic() - began < 15 and "modules: dot, module-git" in added["text"]
    assert cluster.run("login", listing).stdout == before


def test_a_clock_that_is_wrong_over_there(cluster: Cluster, config: str) -> None:
    document("site", "add", "far", "login", "--ssh-config", config)
    real = cluster.run("login", ["which", "date"]).stdout.strip()
    cluster.hide("login", real)
    wrong = f"#!/bin/sh\necho $(($({real}.hidden +%s) + 3600))\n"
    cluster.run("login", ["sh", "-c", f"cat >{real}; chmod 755 {real}"], user="root", stdin=wrong)
    try:
        report = document("site", "check", "far")
    finally:
        cluster.run("login", ["rm", real], user="root")
    assert re.search(r"warning Clock: its clock is (1h|59m 59s) ahead of", messages(report)), messages(report)


def test_somebody_must_log_in_first(cluster: Cluster, config: str, sockets: Path) -> None:
    """How to get there is written down at once; once somebody has logged in, the file is completed."""
    cluster.ask_one_time_code("123456")
    said = refused("site", "add", "far", "login", "--ssh-config", config, code=12)
    assert "hpcrun login far" in said and "Then: hpcrun site add far" in said
    path = file_of_site("far")
    assert "two_factor: true" in path.read_text() and "partitions" not in path.read_text()

    terminal = Terminal("login", "far")
    terminal.until("Password:")
    terminal.type("123456")
    terminal.until("far is open")
    assert terminal.end() == 0
    added = document("site", "add", "far")
    assert added["written"] and "\n  main: " in path.read_text()
    assert f"ssh_config: {config}" in path.read_text() and "two_factor: true" in path.read_text()
    assert document("site", "check", "far")["connection"]["was_open"]

    # A file that is complete is not lost where nobody has logged in.
    complete = path.read_text()
    end_masters(sockets)
    assert "site add far --force" in refused("site", "add", "far", "--force", code=12)
    assert path.read_text() == complete


def test_a_code_that_is_known_to_be_asked_for(cluster: Cluster, config: str) -> None:
    """With --two-factor nothing is even tried."""
    log = SshdLog(cluster)
    refused("site", "add", "far", "login", "--ssh-config", config, "--two-factor", code=12)
    assert log.connections == 0 and "two_factor: true" in file_of_site("far").read_text()


def test_a_host_that_nobody_has_seen(cluster: Cluster, sockets: Path, tmp_path: Path) -> None:
    """Its key is shown; to log in, which asks about the key, the site is known by now."""
    config = str(ssh_config(cluster, tmp_path, UserKnownHostsFile=tmp_path / "none"))
    said = refused("site", "add", "far", "login", "--ssh-config", config, code=11)
    assert "is not known here; it shows " in said and "hpcrun login far" in said
    assert "two_factor" not in file_of_site("far").read_text()


def file_of_site(name: str) -> Path:
    (found,) = [each for each in document("site", "ls")["sites"] if each["name"] == name]
    return Path(found["path"])


def test_a_host_that_is_no_cluster(cluster: Cluster, config: str) -> None:
    """Neither one that nobody answers for, nor one without Slurm, is written down."""
    said = refused("site", "add", "far", "nowhere.invalid", "--ssh-config", config, code=11)
    assert "nowhere.invalid cannot be reached" in said
    for name in ("sbatch", "sinfo", "scontrol"):
        cluster.hide("login", cluster.run("login", ["which", name]).stdout.strip())
    assert "has no Slurm" in refused("site", "add", "far", "login", "--ssh-config", config, code=8)
    assert "far" not in json.dumps(document("site", "ls")["sites"])
