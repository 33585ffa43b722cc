"""Bring a cluster back to how it was booted, between two tests."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.cluster import boot, conf, layout
from tests.cluster.conf import slurm_settings
from tests.cluster.daemons import Daemon
from tests.cluster.options import SHARED
from tests.cluster.procs import wait_for
from tests.cluster.rootfs import USERS

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

_BROKEN = ("down", "drain", "fail", "error", "unknown", "inval", "reboot")


def reset(cluster: Cluster) -> None:
    """End all jobs and user processes, mend all faults, empty all users' folders."""
    cluster.kill_started()
    for host in cluster.options.hosts:
        cluster.link_up(host)
    _unhide(cluster)
    _mend_sshd(cluster)
    _mend_daemons(cluster)
    _mend_slurm_conf(cluster)
    _end_jobs(cluster)
    _end_user_processes(cluster)
    _mend_nodes(cluster)
    _clean_files(cluster)


def _unhide(cluster: Cluster) -> None:
    while cluster.hidden:
        host, path = cluster.hidden.pop()
        cluster.run(host, ["mv", f"{path}.hidden", path], user="root")


def _mend_sshd(cluster: Cluster) -> None:
    etc = cluster.folder / "etc/ssh"
    more = etc / "sshd_config.d/test.conf"
    public = (etc / "ssh_host_ed25519_key.pub").read_text().split()[1]
    changed_key = public not in cluster.known_hosts.read_text()
    if changed_key:
        layout.new_host_key(cluster.instance)
    if more.exists() or changed_key:
        more.unlink(missing_ok=True)
        cluster.daemon("sshd").terminate()
    for host in cluster.options.hosts:
        if host != "login":
            cluster.daemon("sshd", host).kill()


def _mend_daemons(cluster: Cluster) -> None:
    """Start what is dead and continue what is stopped, in the order of their needs."""
    usual: list[Daemon] = []
    if cluster.options.accounting:
        usual += [cluster.daemon("mariadbd"), cluster.daemon("slurmdbd")]
    usual.append(cluster.daemon("slurmctld"))
    usual += [cluster.daemon("slurmd", node) for node in cluster.options.node_names]
    usual.append(cluster.daemon("sshd"))
    for daemon in usual:
        if not daemon.running():
            daemon.start()
    ctl = cluster.hosts["ctl"]
    wait_for(lambda: ctl.run(["scontrol", "ping"], user="root"), 60, "the controller to answer")


def _mend_slurm_conf(cluster: Cluster) -> None:
    settings = slurm_settings(cluster.options)
    right = conf.slurm_conf(settings, cluster.options, cluster.number)
    if (cluster.folder / "etc/slurm/slurm.conf").read_text() != right:
        cluster.reconfigure({})


def _jobs(cluster: Cluster) -> list[str]:
    told = cluster.run("ctl", ["squeue", "--noheader", "--format=%A"], user="root")
    return sorted(set(told.stdout.split()))


def _end_jobs(cluster: Cluster) -> None:
    jobs = _jobs(cluster)
    if not jobs:
        return
    cluster.run("ctl", ["scancel", "--state=PENDING", *jobs], user="root", check=False)
    # Running ones are killed outright: whoever ignores SIGTERM costs KillWait seconds.
    _end_user_processes(cluster)
    cluster.run("ctl", ["scancel", *jobs], user="root", check=False)
    wait_for(lambda: not _jobs(cluster), 60, "cancelled jobs to be gone")


def _end_user_processes(cluster: Cluster) -> None:
    for host in cluster.options.hosts:
        for user in USERS:
            for process in cluster.processes(host, user=user):
                process.signal(signal.SIGKILL)


def _mend_nodes(cluster: Cluster) -> None:
    broken = [
        node for node, state in cluster.node_states().items() if any(w in state for w in _BROKEN)
    ]  # fmt: skip
    for node in broken:
        update = ["scontrol", "update", f"nodename={node}", "state=resume"]
        cluster.run("ctl", update, user="root", check=False)  # it may have mended itself by now
    wait_for(lambda: boot.nodes_idle(cluster.hosts["ctl"]), 60, "all nodes to be idle")


def _clean_files(cluster: Cluster) -> None:
    for user in USERS:
        layout.fresh_home(cluster.instance, cluster.lower, user)
    for name in SHARED:
        if name != "/home":
            layout.empty(cluster.folder / name.strip("/"))
    for host in cluster.options.hosts:
        # -xdev: the tests' virtual environment may be bound somewhere beneath /tmp.
        theirs = ["(", "-user", "alice", "-o", "-user", "bob", ")"]
        places = ["/tmp", "/var/tmp", "/dev/shm"]
        command = ["find", *places, "-xdev", "-depth", "-mindepth", "1", *theirs, "-delete"]
        cluster.run(host, command, user="root", check=False)
