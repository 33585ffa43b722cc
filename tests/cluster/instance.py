"""Which clusters exist on this machine, and how one is taken away without a trace.

Each has a number N, which names everything it has outside its own namespaces: the
folder RUNTIME/N (one tmpfs), the bridge hpcrunN and the subnet 10.77.N.0/24.  All
else lives in the namespaces of its hosts and ends with their processes.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.cluster.options import Options, address
from tests.cluster.procs import ClusterError, CommandError, Process, call, wait_for

RUNTIME = Path("/run/hpcrun-test-clusters")


@dataclass
class Instance:
    """One cluster's place on the machine; saved in its folder as state.json."""

    number: int
    options: Options
    lower: str  # the root file system under all its hosts
    owner: Process | None  # None: kept until somebody says down
    outer: dict[str, Process] = field(default_factory=dict)  # host -> holder of its namespaces
    inner: dict[str, Process] = field(default_factory=dict)  # host -> its pid 1

    @property
    def folder(self) -> Path:
        """All that the cluster has on disk (in memory, that is)."""
        return RUNTIME / str(self.number)

    @property
    def bridge(self) -> str:
        """Name of the bridge that joins the hosts and this machine."""
        return f"hpcrun{self.number}"

    def link(self, host: str) -> str:
        """Name of this machine's end of a host's network cable."""
        return f"hr{self.number}-{host}"

    def save(self) -> None:
        """Write state.json, whole or not at all."""
        text = json.dumps({**asdict(self), "options": asdict(self.options)})
        unfinished = self.folder / ".state.json"
        unfinished.write_text(text)
        unfinished.replace(self.folder / "state.json")

    def stale(self) -> bool:
        """True when the process that was to take it down has died."""
        return self.owner is not None and not self.owner.alive()


@contextmanager
def _locked() -> Iterator[None]:
    RUNTIME.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (RUNTIME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _load(folder: Path) -> Instance | None:
    """The instance in a folder; None when it died before it wrote anything."""
    try:
        saved = json.loads((folder / "state.json").read_text())
    except FileNotFoundError:
        return None
    options = saved["options"]
    for name in ("binds", "private_home"):
        options[name] = tuple(options[name])
    return Instance(
        saved["number"],
        Options(**options),
        saved["lower"],
        saved["owner"] and Process(**saved["owner"]),
        {host: Process(**process) for host, process in saved["outer"].items()},
        {host: Process(**process) for host, process in saved["inner"].items()},
    )


def instances() -> list[Instance]:
    """Every cluster on this machine, by number."""
    if not RUNTIME.is_dir():
        return []
    folders = sorted((f for f in RUNTIME.iterdir() if f.name.isdigit()), key=lambda f: int(f.name))
    return [found for folder in folders if (found := _load(folder))]


def clean_stale() -> list[int]:
    """Take away what dead owners left behind; give back the numbers."""
    with _locked():
        return _clean_stale()


def _clean_stale() -> list[int]:
    gone = []
    for folder in [f for f in RUNTIME.iterdir() if f.name.isdigit()]:
        # Numbers are given and first saved under the lock that we hold now, so a
        # folder without a state was left by somebody who died in between.
        found = _load(folder) or Instance(int(folder.name), Options(), "", None)
        if found.stale() or not (folder / "state.json").exists():
            destroy(found)
            gone.append(found.number)
    return gone


def allocate(options: Options, lower: Path, keep: bool) -> Instance:
    """Take a free number, its folder and its bridge; kept ones outlive this process."""
    owner = None if keep else Process.of(os.getpid())
    with _locked():
        _clean_stale()
        for number in range(1, 251):
            found = Instance(number, options, str(lower), owner)
            taken = found.folder.exists() or Path("/sys/class/net", found.bridge).exists()
            if not taken:
                break
        else:
            raise ClusterError(f"250 clusters are up already; see {RUNTIME}")
        found.folder.mkdir(mode=0o755)
        call(["mount", "-t", "tmpfs", "-o", "mode=755", found.bridge, str(found.folder)])
        found.save()
    call(["ip", "link", "add", "name", found.bridge, "type", "bridge"])
    call(["ip", "address", "add", f"{address(number, 'machine')}/24", "dev", found.bridge])
    call(["ip", "link", "set", "dev", found.bridge, "up"])
    return found


def destroy(found: Instance) -> None:
    """End every process of a cluster and remove all it had; fine to do twice."""
    for process in (*found.outer.values(), *found.inner.values()):
        process.signal(signal.SIGKILL)
    ours = [*found.outer.values(), *found.inner.values()]
    wait_for(lambda: not any(each.alive() for each in ours), 10, "the hosts' processes to end")
    links = Path("/sys/class/net")
    for name in [*(found.link(host) for host in found.options.hosts), found.bridge]:
        if (links / name).exists():
            # A cable vanishes by itself with its host's namespace, perhaps right now.
            call(["ip", "link", "delete", "dev", name], check=False)
    wait_for(lambda: not (links / found.bridge).exists(), 10, f"bridge {found.bridge} to go")
    _unmount(found.folder)


def _unmount(folder: Path) -> None:
    if os.path.ismount(folder):
        try:
            # The last mounts of a dying namespace go a moment after its processes.
            wait_for(lambda: call(["umount", "--recursive", str(folder)]), 5, f"{folder} to be free")
        except (ClusterError, CommandError):
            call(["umount", "--recursive", "--lazy", str(folder)])
    with suppress(FileNotFoundError):
        folder.rmdir()
