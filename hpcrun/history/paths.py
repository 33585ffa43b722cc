"""Where things lie: in the workspace's ``.hpcrun`` folder, and in the folder of one run.

The only module that knows the names of these files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_STATUS, _METRICS = "status.json", "metrics"


def status_of(run_dir: str) -> str:
    """``RunPaths(run_dir).status`` as text, for thousands of runs at a time."""
    return f"{run_dir}/{_STATUS}"


def metrics_of(run_dir: str) -> str:
    """Likewise ``RunPaths(run_dir).metrics``."""
    return f"{run_dir}/{_METRICS}"


@dataclass(frozen=True)
class RunPaths:
    """The folder of one run: on the target (``ROOT/runs/RUN_ID``) and at home (``.hpcrun/runs/RUN_ID``)."""

    folder: Path

    @property
    def record(self) -> Path:
        return self.folder / "run.json"

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def script(self) -> Path:
        return self.folder / "job.sh"

    @property
    def builder(self) -> Path:
        """What makes the run's environment, where hpcrun does."""
        return self.folder / "environment.sh"

    @property
    def environment_log(self) -> Path:
        """What was said while the run's environment was made."""
        return self.system_logs / "environment.txt"

    @property
    def packages(self) -> Path:
        """What is in the run's environment, where hpcrun made it."""
        return self.system_logs / "packages.txt"

    @property
    def lock_file(self) -> Path:
        """The same with hashes, as far as its kind has such a form."""
        return self.system_logs / "lock.txt"

    @property
    def secrets(self) -> Path:
        """Exports that job.sh reads, on the target; there for as long as the run lives, if it has any."""
        return self.folder / "secrets.sh"

    @property
    def status(self) -> Path:
        """Written atomically by the job itself."""
        return self.folder / _STATUS

    @property
    def claim(self) -> Path:
        """The folder the job makes first of all; a second job of the same run finds it taken."""
        return self.folder / "claim"

    @property
    def lock(self) -> Path:
        """Held while run.json changes."""
        return self.folder / "run.lock"

    @property
    def submit_lock(self) -> Path:
        """Held while the run is being submitted."""
        return self.folder / "submit.lock"

    @property
    def code(self) -> Path:
        return self.folder / "code"

    @property
    def outputs(self) -> Path:
        return self.code / "outputs"

    @property
    def logs(self) -> Path:
        return self.code / "logs"

    @property
    def user_logs(self) -> Path:
        return self.folder / "user_logs"

    @property
    def system_logs(self) -> Path:
        return self.folder / "system_logs"

    @property
    def attempts(self) -> Path:
        """What status.json has held, a line each; only ever appended to."""
        return self.system_logs / "attempts.jsonl"

    @property
    def given(self) -> Path:
        """What the run was given of others, on another machine than theirs: links to what was sent."""
        return self.folder / "given"

    @property
    def metrics(self) -> Path:
        return self.folder / _METRICS

    @property
    def function(self) -> Path:
        """The call of a function, pickled, with the program that makes it; on the target and at home."""
        return self.folder / "function.pyz"

    @property
    def results(self) -> Path:
        """What a function returned or raised, a pickle a rank."""
        return self.folder / "results"

    @property
    def files(self) -> Path:
        """What the target had of the run's files when it was last asked: one that came home, or stayed."""
        return self.folder / "files.json"

    @property
    def sync_lock(self) -> Path:
        """Held while files of the run are brought home."""
        return self.folder / "sync.lock"

    @property
    def sweep_lock(self) -> Path:
        """Held while a sweep is moved one step."""
        return self.folder / "sweep.lock"

    @property
    def trials(self) -> Path:
        """What those of a sweep's trials reported that have ended; may be lost, and is then read anew."""
        return self.folder / "trials.json"

    @property
    def diff(self) -> Path:
        return self.folder / "git.diff"


@dataclass(frozen=True)
class TablePaths:
    """The folder of trials that were written down together, named after the first of them."""

    folder: Path

    @property
    def table(self) -> Path:
        """What they have in common, and a line for each; never changes."""
        return self.folder / "table.json"

    @property
    def state(self) -> Path:
        """How far their submission has come."""
        return self.folder / "state.json"

    @property
    def gone(self) -> Path:
        """The numbers of lines whose runs were deleted, one a line."""
        return self.folder / "gone"

    @property
    def submit_lock(self) -> Path:
        """Held while they are being submitted."""
        return self.folder / "submit.lock"

    @property
    def diff(self) -> Path:
        return self.folder / "git.diff"

    @property
    def builder(self) -> Path:
        return self.folder / "environment.sh"


@dataclass(frozen=True)
class WorkspacePaths:
    """The ``.hpcrun`` folder of a workspace."""

    folder: Path

    @property
    def database(self) -> Path:
        return self.folder / "history.db"

    @property
    def new_database(self) -> Path:
        """A database that is being made, to take the place of one that is gone or damaged."""
        return self.folder / "history.db.new"

    def backup(self, file: Path, stamp: str) -> Path:
        """Where a file of this folder is kept that another took the place of."""
        return self.folder / f"{file.name}.bak-{stamp}"

    @property
    def database_lock(self) -> Path:
        """Held while the database is made, migrated or switched to another journal mode."""
        return self.folder / "history.lock"

    @property
    def experiments(self) -> Path:
        """Which experiments are archived, and numbers that are not to be given out again."""
        return self.folder / "experiments.json"

    @property
    def unsettled(self) -> Path:
        """One empty file for every run whose record may be ahead of its row in the index."""
        return self.folder / "unsettled"

    @property
    def deleting(self) -> Path:
        """Where the folder of a run lies from when it counts as deleted until all of it is."""
        return self.folder / "deleting"

    @property
    def snapshots(self) -> Path:
        return self.folder / "snapshots.git"

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def run(self, run_id: str) -> RunPaths:
        return RunPaths(self.runs / run_id)

    @property
    def trials(self) -> Path:
        """Trials that were written down together, of which some have no folder of their own yet."""
        return self.folder / "trials"

    def table(self, leader: str) -> TablePaths:
        return TablePaths(self.trials / leader)

    @property
    def again(self) -> Path:
        """Names of sweeps that have ended, and of which trials are still to be tried again."""
        return self.folder / "again"

    @property
    def places(self) -> Path:
        """What is known of sites on other machines: where their runs lie."""
        return self.folder / "places"

    @property
    def tick(self) -> Path:
        """The trouble that the last tick met, so that the next one need not tell it again."""
        return self.folder / "tick.json"

    @property
    def tick_lock(self) -> Path:
        """Held by a tick."""
        return self.folder / "tick.lock"

    @property
    def tensorboard(self) -> Path:
        """What runs have measured, as TensorBoard reads it: a folder a run."""
        return self.folder / "tensorboard"

    @property
    def ticked(self) -> Path:
        """When the last tick was, and what came of it."""
        return self.folder / "ticked.json"

    @property
    def schedules(self) -> Path:
        """What is submitted again and again: a file each."""
        return self.folder / "schedules"

    @property
    def notices(self) -> Path:
        """A file for every run of whose end somebody is to be told, until that is done."""
        return self.folder / "notices"

    @property
    def notify(self) -> Path:
        """Who is told of the end of every run that says nothing of it itself."""
        return self.folder / "notify.yaml"

    @property
    def cron(self) -> Path:
        """What calls tick, on which machine, how often."""
        return self.folder / "cron.json"

    @property
    def logs(self) -> Path:
        """What ticks that cron started had to say."""
        return self.folder / "logs"

    @property
    def tick_log(self) -> Path:
        return self.logs / "tick.log"

    @property
    def registered(self) -> Path:
        """Environments of the workspace: a folder a version, ``NAME/1``, ``NAME/2``, …"""
        return self.folder / "registered"

    @property
    def templates(self) -> Path:
        return self.folder / "templates"

    @property
    def site_configs(self) -> Path:
        return self.folder / "site_configs"

    @property
    def ignore(self) -> Path:
        """Holds ``*``, so that git never sees the workspace."""
        return self.folder / ".gitignore"
