"""A site: a cluster described in one YAML file, or this machine (``local``)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, model_validator

from hpcrun.models.base import (
    Count,
    DurationField,
    EnvironmentVariables,
    Line,
    MemoryField,
    Model,
    Name,
    Origins,
    Text,
)
from hpcrun.models.resources import Resources, SiteSbatchOptions
from hpcrun.units import Duration

AbsolutePath = Annotated[Line, Field(pattern=r"^/")]
RootPath = Annotated[Line, Field(pattern=r"^(/|~(/|$)|\$[A-Za-z_{])")]


class _Called(str):
    """A site's name, kept with its connection for the sake of messages; no part of what that says."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Called)

    __hash__ = str.__hash__


class Connection(Model):
    """How the site is reached. ``here``: its commands run on this machine (a login node). ``ssh``: from
    elsewhere, by the ssh program where there is one (``openssh``), else by ``fabric``.

    ``host`` is a name as ssh takes it, from ssh_config too. ``login_nodes`` are patterns of host names: on
    these machines the site is here, so that one file serves laptop and login node. ``two_factor``: nobody
    gets in without typing something, so nothing but ``hpcrun login`` ever tries. ``login_shell``: Slurm's
    commands are found only with what the user's profile sets. ``persist``: how long an idle connection stays
    open. ``connect_timeout`` is in seconds.
    """

    type: Literal["here", "ssh", "openssh", "fabric"] = "here"
    host: Annotated[Line, Field(pattern=r"^[A-Za-z0-9_\[]")] | None = None
    user: Name | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    jump: Annotated[Line, Field(pattern=r"^[A-Za-z0-9_\[]")] | None = None
    ssh_config: Line | None = None
    login_nodes: list[Line] = []
    two_factor: bool = False
    login_shell: bool = False
    persist: DurationField = Field(default_factory=lambda: Duration(8 * 3600))
    connect_timeout: Annotated[int, Field(ge=1, le=300)] = 15
    _site: _Called = PrivateAttr(_Called())

    @property
    def site(self) -> str:
        """What to call it: the name of its site; of one that stands alone, the host's."""
        return str(self._site) or self.host or "here"

    @model_validator(mode="after")
    def _host_of_ssh(self) -> Connection:
        if self.type != "here" and self.host is None:
            raise ValueError(f"connection.type {self.type} needs a host")
        return self


class Scheduler(Model):
    """What there is to know of the site's scheduler.

    ``gpu_directive``: ask for GPUs with ``--gres=gpu:N`` or ``--gpus-per-node=N``; the two exclude
    each other. ``memory_directive: none`` where a site refuses --mem. ``mpi`` is srun's ``--mpi`` plug-in
    (see ``srun --mpi=list``); with ``default`` srun gets no ``--mpi`` and uses the cluster's own; with
    ``mpirun`` that starts MPI processes, given the long options in ``mpirun``. ``node_address_suffix`` is
    appended to a node's name to get the address of its fast network. ``accounting: false`` where sacct does
    not work. ``max_running`` (local only): CPUs that runs may use at once. ``sbatch`` and ``srun``: further
    long options for every run.
    """

    type: Literal["slurm", "local"] = "slurm"
    max_array_size: Count = 1001
    gpu_directive: Literal["gres", "gpus-per-node"] = "gres"
    memory_directive: Literal["mem", "none"] = "mem"
    mpi: Name = "pmix"
    mpirun: SiteSbatchOptions = {}
    node_address_suffix: Annotated[Line, Field(max_length=64)] = ""
    accounting: bool = True
    max_running: Count | None = None
    template: Name | None = None
    sbatch: SiteSbatchOptions = {}
    srun: SiteSbatchOptions = {}


class Partition(Model):
    """One partition: its limits (for one run), its GPU types, and its own defaults."""

    max_time: DurationField | None = None
    max_nodes: Count | None = None
    max_cpus_per_node: Count | None = None
    max_memory_per_node: MemoryField | None = None
    gpus_per_node: Annotated[int, Field(ge=0)] | None = None
    gpu_types: list[Name] = []
    defaults: Resources = Field(default_factory=Resources)


class Conda(Model):
    """Where conda lies: ``root`` holds ``etc/profile.d/conda.sh``. ``executable`` makes environments: the
    path or the name of a micromamba, mamba or conda; left out, the first of these that is found."""

    root: AbsolutePath | None = None
    executable: Line | None = None


class Apptainer(Model):
    """``executable`` by path or name; ``binds`` for every run of the site. ``fakeroot``: whether images are
    built with it. ``cache``: where layers are kept while images are pulled, off the home's quota; left out,
    beside the environments."""

    executable: Line = "apptainer"
    binds: list[Line] = []
    fakeroot: bool = True
    cache: RootPath | None = None


class EnvironmentBuilds(Model):
    """Where the site's environments are made, and where they lie.

    ``build: login`` makes them on the login node, before the run is submitted; ``job`` in a job of its own,
    on ``partition`` and with ``resources``, which the run waits for in the queue. ``root`` holds them; left
    out, it is ``environments`` in the site's root.
    """

    build: Literal["login", "job"] = "login"
    partition: Name | None = None
    resources: Resources = Field(default_factory=Resources)
    root: RootPath | None = None


class Site(Model):
    """A compute target's description.

    ``root`` holds the run folders on the target; left out, they lie in the workspace itself, which then
    must be on a file system that the compute nodes share. ``defaults`` are resources for every run of the
    site. ``setup`` is shell source, run before the environment is activated. ``nccl`` holds NCCL_* and
    other network variables that only a site can know.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: Line = ""
    connection: Connection = Field(default_factory=Connection)
    scheduler: Scheduler = Field(default_factory=Scheduler)
    root: RootPath | None = None
    default_partition: Name | None = None
    default_account: Name | None = None
    partitions: dict[Name, Partition] = {}
    defaults: Resources = Field(default_factory=Resources)
    modules: list[Name] = []
    setup: Text | None = None
    conda: Conda = Field(default_factory=Conda)
    apptainer: Apptainer = Field(default_factory=Apptainer)
    environments: EnvironmentBuilds = Field(default_factory=EnvironmentBuilds)
    nccl: EnvironmentVariables = {}
    environment_variables: EnvironmentVariables = {}
    _origins: Origins = PrivateAttr(default_factory=Origins)

    @model_validator(mode="after")
    def _named_connection(self) -> Site:
        self.connection._site = _Called(self.name)
        return self

    @model_validator(mode="after")
    def _known_partition(self) -> Site:
        wanted = self.default_partition
        if wanted is not None and self.partitions and wanted not in self.partitions:
            raise ValueError(
                f"default_partition {wanted!r} is not among partitions: {', '.join(self.partitions)}"
            )
        return self
