"""What a cluster is to be like, and the names and addresses that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Where alice and bob may charge; alice may not charge "other".
ACCOUNTS = {"lab": ("alice", "bob"), "other": ("bob",)}

#: Every folder that all hosts share, and its mode. /small is 5 MB: for full disks.
SHARED = {"/home": 0o755, "/scratch": 0o1777, "/small": 0o1777}


@dataclass(frozen=True)
class Options:
    """How to boot a cluster; the defaults suit quick tests."""

    slurm: str = "trixie"  # Debian suite: 24.11 in trixie, 22.05 in bookworm, newer in sid
    accounting: bool = True  # False: no slurmdbd, as at many sites
    nodes: int = 3
    cpus: int = 4  # claimed by each node; the machine need not have them
    memory: int = 4000  # MB claimed by each node
    gpus: int = 2  # pretended GPUs of each node: gres gpu:fake
    slurm_conf: Mapping[str, str] = field(default_factory=dict)  # lines that replace ours
    binds: tuple[str, ...] = ()  # more folders of this machine, seen read-only by every host
    private_home: tuple[str, ...] = ()  # hosts that do not see the shared /home

    @property
    def node_names(self) -> tuple[str, ...]:
        """The compute nodes' host names."""
        return tuple(f"node{i}" for i in range(1, self.nodes + 1))

    @property
    def hosts(self) -> tuple[str, ...]:
        """All host names."""
        return ("ctl", "login", *self.node_names)


def address(number: int, host: str) -> str:
    """IPv4 address of a host ("machine": this machine's end) in cluster number N."""
    last = {"machine": 1, "ctl": 2, "login": 3}.get(host)
    return f"10.77.{number}.{last or 10 + int(host.removeprefix('node'))}"
