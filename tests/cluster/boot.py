"""From a number on the machine to a cluster that answers sinfo with idle nodes."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.cluster import layout
from tests.cluster.daemons import Daemon
from tests.cluster.host import Host, find_init, launch, plug_in
from tests.cluster.instance import Instance
from tests.cluster.options import ACCOUNTS
from tests.cluster.procs import Process, wait_for
from tests.cluster.rootfs import Say


def start_hosts(instance: Instance, lower: Path, images: Path) -> list[subprocess.Popen[bytes]]:
    """Start every host, all at once, and plug them into the network."""
    logs = instance.folder / "logs"
    holders = []
    for host in instance.options.hosts:
        seen = layout.binds(instance, host, lower, images)
        holder = launch(host, instance, lower, seen, logs / f"host-{host}.log")
        instance.outer[host] = Process.of(holder.pid)
        holders.append(holder)
    instance.save()
    for host in instance.options.hosts:
        plug_in(host, instance)
    for host in instance.options.hosts:
        instance.inner[host] = find_init(host, instance, logs / f"host-{host}.log")
    instance.save()
    return holders


def start_slurm(instance: Instance, hosts: dict[str, Host], say: Say) -> None:
    """Start the daemons in the order in which they need one another."""
    ctl = hosts["ctl"]
    sshd = Daemon("sshd", hosts["login"])
    sshd.launch()
    if instance.options.accounting:
        say("  database and accounting")
        Daemon("mariadbd", ctl).start()
        Daemon("slurmdbd", ctl).start()
        _add_accounts(ctl)
    say("  controller and nodes")
    Daemon("slurmctld", ctl).start()
    nodes = [Daemon("slurmd", hosts[name]) for name in instance.options.node_names]
    for node in nodes:
        node.launch()
    sshd.wait_ready()
    wait_for(lambda: nodes_idle(ctl), 60, "all nodes to be idle")


def _add_accounts(ctl: Host) -> None:
    changes: list[list[str]] = [["cluster", "virtual"]]
    for account, members in ACCOUNTS.items():
        changes.append(["account", account, f"description={account}", f"organization={account}"])
        changes += [["user", user, f"account={account}"] for user in members]
    changes += [["qos", "high", "priority=100"]]
    for words in changes:
        ctl.run(["sacctmgr", "-i", "add", *words], user="root", cwd="/")
    users = sorted({user for each in ACCOUNTS.values() for user in each})
    every = ["modify", "user", "where", f"name={','.join(users)}", "set", "qos=normal,high"]
    ctl.run(["sacctmgr", "-i", *every], user="root", cwd="/")


def node_states(ctl: Host) -> dict[str, str]:
    """Slurm's word for every node, as 'idle', 'down*' or 'mixed'."""
    told = ctl.run(["sinfo", "--noheader", "-N", "-o", "%N %T"], user="root", cwd="/", timeout=30)
    return dict(line.split() for line in told.stdout.splitlines())


def nodes_idle(ctl: Host) -> bool:
    """True once every node is idle; an error, which says why, until then."""
    states = node_states(ctl)
    if not states or set(states.values()) != {"idle"}:
        raise ChildProcessError(f"nodes are {states}")
    return True
