"""From a compute target's name to what reaches it: the site, its scheduler, its folders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpcrun.errors import HpcrunError
from hpcrun.places.base import OnSend, Place
from hpcrun.places.near import NearPlace
from hpcrun.schedulers.base import Scheduler
from hpcrun.shells.base import PosixShell, RemoteShell, Shell

if TYPE_CHECKING:
    from hpcrun.history.record import RunRecord
    from hpcrun.history.store import History
    from hpcrun.models.site import Site


@dataclass(frozen=True)
class Target:
    """A compute target that can be used: ``name`` is ``SITE`` or ``SITE:PARTITION``. ``remote`` is the shell
    of a site on another machine, and None where it is here."""

    name: str
    partition: str | None
    site: Site
    scheduler: Scheduler
    shell: PosixShell
    place: Place
    remote: RemoteShell | None


class Targets:
    """The compute targets that a workspace knows, opened when first asked for."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._open: dict[str, Target] = {}
        self.on_send: OnSend | None = None
        """Told of files of earlier runs that are about to be sent, which may be large."""

    def get(self, name: str) -> Target:
        """The target ``SITE`` or ``SITE:PARTITION``. Raises NotFoundError, ConfigError."""
        if name not in self._open:
            from hpcrun.config.sites import load_site, split_target

            site_name, partition = split_target(name)
            site = load_site(site_name, self._workspace)
            same = next((t for t in self._open.values() if t.site.name == site_name), None)
            self._open[name] = replace(
                same or _open(site, self._workspace), name=name, partition=partition, site=site
            )
        return self._open[name]

    def scheduler_of(self, name: str) -> Scheduler:
        """The scheduler behind a target, by its site alone: a partition may have been renamed since."""
        return self.get(name.partition(":")[0]).scheduler

    def forget_secrets(self, history: History, record: RunRecord) -> None:
        """Take the values of a run that has ended away. Never raises for trouble out there."""
        if not record.run_dir or not record.config.get("secrets"):
            return
        try:
            place = self.get(record.target.partition(":")[0]).place
        except HpcrunError:
            return  # its site is no longer described
        place.forget(history, record)

    def close(self) -> None:
        """Let go of connections that this process alone holds."""
        for target in self._open.values():
            if target.remote is not None:
                target.remote.close()


def _open(site: Site, workspace: Path) -> Target:
    from hpcrun.shells import remote_shell
    from hpcrun.shells.local import LocalShell

    remote = remote_shell(site.connection)
    if remote is None:
        shell = LocalShell()
        place: Place = NearPlace(site.name, site.root, site.environments.root)
        return Target(site.name, None, site, _scheduler(site, shell), shell, place, None)
    from hpcrun.places.far import FarPlace
    from hpcrun.schedulers.slurmremote import RemoteSlurmScheduler

    far = FarPlace(site, remote, workspace)
    scheduler = RemoteSlurmScheduler(remote, accounting=site.scheduler.accounting)
    return Target(site.name, None, site, scheduler, remote, far, remote)


def _scheduler(site: Site, shell: Shell) -> Scheduler:
    if site.scheduler.type == "local":
        from hpcrun.schedulers.local import LocalScheduler

        return LocalScheduler(_local_queue(), site.scheduler.max_running)
    from hpcrun.schedulers.slurm import SlurmScheduler

    return SlurmScheduler(shell, accounting=site.scheduler.accounting)


def _local_queue() -> Path:
    import platformdirs

    return platformdirs.user_state_path("hpcrun") / "local"
