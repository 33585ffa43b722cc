"""A small job that tries a site out: its script, and what its processes said. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hpcrun.launchers.mpi import mpirun_options
from hpcrun.launchers.world import PROGRAM, World, read_worlds
from hpcrun.models.site import Site
from hpcrun.probe.answers import read_answers, script
from hpcrun.probe.compare import MOST_SKEW
from hpcrun.probe.facts import NAME
from hpcrun.probe.findings import Finding
from hpcrun.quoting import Directive, ShellText, ShellWord, argv_text
from hpcrun.units import Duration

PREFIX = "hpcrun-site-check-"
"""How the job's name begins, and its folder's; ``job_clean.sh`` takes away nothing else."""

NOT_SHARED = 41
"""The exit code of a job that does not see what was written on the login node."""

_SAID = re.compile(r"hpcrun: (\d{1,6}) ([a-z]+)=(.*)")
_SRUN = re.compile(r"hpcrun: srun (\d{1,3})")


@dataclass(frozen=True)
class Wanted:
    """The job to be: one process on each of ``nodes``, with ``gpus`` on each, for so
    many seconds at most."""

    partition: str | None = None
    nodes: int = 2
    gpus: int = 0
    account: str | None = None
    seconds: int = 300


@dataclass(frozen=True)
class Stand:
    """How the job stands: Slurm's word and reason, its exit code, the login node's clock; once it is ``done``
    also what its processes have said, by rank, and the size of the world that each MPI process saw."""

    done: bool = False
    state: str = ""
    reason: str = ""
    exit_code: int | None = None
    time: int | None = None
    ranks: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    srun: int | None = None
    worlds: tuple[World, ...] | None = None
    said: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.done or self.state not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED")


def job_script(site: Site, wanted: Wanted, name: str) -> str:
    """The script for sbatch."""
    mpi = site.scheduler.mpi
    option = f"--mpi={mpi}" if mpi not in ("default", "mpirun") and NAME.fullmatch(mpi) else ""
    by_mpirun = argv_text(["mpirun", "-n", str(wanted.nodes), *mpirun_options(site.scheduler.mpirun)])
    variables = ShellText(
        'mpi={}\nworld() {{ timeout 90 {} "$@"; }}\nsuffix={}\nprogram={}\nrank={}\n',
        ShellWord(option),
        by_mpirun if mpi == "mpirun" else ShellText("srun $mpi"),
        ShellWord(site.scheduler.node_address_suffix),
        ShellWord(PROGRAM),
        ShellWord(script("job_rank", alone=True)),
    )
    lines = "\n".join(map(str, _directives(site, wanted, name)))
    return f"#!/bin/sh\n{lines}\n{variables}{script('job_batch', alone=True)}"


def _directives(site: Site, wanted: Wanted, name: str) -> Iterator[Directive]:
    partition = wanted.partition or site.default_partition
    asked = site.defaults
    yield Directive("job-name", name)
    yield Directive("output", "/dev/null")
    yield Directive("chdir", "/")
    yield Directive("nodes", wanted.nodes)
    yield Directive("ntasks-per-node", 1)
    yield Directive("time", Duration(wanted.seconds).slurm)
    account = wanted.account or asked.account or site.default_account
    for key, value in (("partition", partition), ("account", account), ("qos", asked.qos)):
        if value is not None:
            yield Directive(key, value)
    if wanted.gpus and site.scheduler.gpu_directive == "gres":
        yield Directive("gres", f"gpu:{wanted.gpus}")
    elif wanted.gpus:
        yield Directive("gpus-per-node", wanted.gpus)
    for key, option in {**site.scheduler.sbatch, **asked.sbatch}.items():
        if option is True:
            yield Directive(key)
        elif option is not None and option is not False:
            yield Directive(key, option)


def read_stand(text: str) -> Stand:
    """The answer of ``job_look.sh``."""
    values = dict(
        line.split("=", 1) for line in text.splitlines() if re.match(r"(done|state|exit|date)=", line)
    )
    state, _, reason = values.get("state", "").partition("|")
    code = re.fullmatch(r"(\d{1,3}):\d{1,3}", values.get("exit", ""))
    date = values.get("date", "")
    answers = read_answers(text)
    lines = [line for each in answers.get("ranks", ()) for line in each.lines]
    worlds = [line for each in answers.get("world", ()) for line in each.lines]
    srun = next((int(match[1]) for line in lines if (match := _SRUN.fullmatch(line.strip()))), None)
    return Stand(
        done=values.get("done") == "yes",
        state=state.strip(),
        reason=reason.strip(),
        exit_code=int(code[1]) if code is not None else None,
        time=int(date) if re.fullmatch(r"\d{1,12}", date) else None,
        ranks=_ranks(lines),
        srun=srun,
        worlds=read_worlds(worlds) if "world" in answers else None,
        said=_last([*lines, *worlds]),
    )


def _ranks(lines: Sequence[str]) -> dict[int, dict[str, str]]:
    found: dict[int, dict[str, str]] = {}
    for line in lines:
        match = _SAID.fullmatch(line.strip())
        if match is not None:
            found.setdefault(int(match[1]), {})[match[2]] = match[3].strip()[:200]
    return found


def _last(lines: Sequence[str]) -> str:
    """What a program itself said last: no line of ours."""
    return next(
        (line.strip()[:300] for line in reversed(lines) if line.strip() and "hpcrun: " not in line), ""
    )


def judge(site: Site, wanted: Wanted, stand: Stand) -> list[Finding]:
    """What the job tells of the site, a finding for each thing that it tried."""
    if not stand.done:
        return [_ended_early(site, stand)]
    ranks = stand.ranks
    if stand.srun or len(ranks) != wanted.nodes:
        message = f"of {wanted.nodes} processes {len(ranks)} came up"
        if stand.srun:
            message += f"; srun ended with exit code {stand.srun}"
        hint = f"srun said: {stand.said}" if stand.said else "Is the plug-in right? scheduler: {mpi: …}"
        return [Finding("problem", "Ranks", message, ("scheduler", "mpi"), hint), *_places(ranks)]
    return [
        *_started(site, wanted, stand),
        *_places(ranks),
        *_reach(site, ranks),
        *_gpus(wanted, ranks),
        *_clocks(stand),
    ]


def _ended_early(site: Site, stand: Stand) -> Finding:
    if stand.exit_code == NOT_SHARED:
        message = "the compute nodes do not see what was written to root on the login node"
        return Finding("problem", "Root", message, ("root",), "Choose a folder on a shared file system.")
    how = f" as {stand.state}" if stand.state else ""
    code = f", exit code {stand.exit_code}" if stand.exit_code else ""
    why = f" ({stand.reason})" if stand.reason not in ("", "None") else ""
    message = f"the job ended{how}{code}{why}, and said nothing"
    return Finding("problem", "Job", message, next="Do the nodes see root? 'sacct' may know more.")


def _started(site: Site, wanted: Wanted, stand: Stand) -> Iterator[Finding]:
    path, mpi = ("scheduler", "mpi"), site.scheduler.mpi
    by = "srun" if mpi in ("default", "mpirun") else f"srun --mpi={mpi}"
    sizes = {values.get("size", "?") for values in stand.ranks.values()}
    if sizes != {str(wanted.nodes)}:
        yield Finding(
            "problem", "Ranks", f"{by}: processes think that they are {', '.join(sorted(sizes))}", path
        )
        return
    yield Finding(
        "ok", "Ranks", f"{by} started {wanted.nodes} processes, one on each of {wanted.nodes} nodes"
    )
    if stand.worlds is None:
        bare = mpi not in ("default", "mpirun") and not all(
            values.get("pmi") for values in stand.ranks.values()
        )
        if bare:
            message = f"{by} gives its processes no PMI: MPI programs will each be alone"
            yield Finding("warning", "MPI", message, path, "See 'srun --mpi=list', and scheduler: {mpi: …}")
        else:
            yield Finding("note", "MPI", "no MPI program was tried: there is no python3 with mpi4py")
        return
    seen = [world.size for world in stand.worlds]
    if len(seen) == wanted.nodes and set(seen) == {wanted.nodes}:
        yield Finding(
            "ok", "MPI", f"mpi4py of the system's python3: a world of {wanted.nodes} in each process"
        )
        return
    saw = f"worlds of {', '.join(map(str, seen))}" if seen else "no world at all"
    cause = "is it the mpirun of another MPI?" if mpi == "mpirun" else "its PMI is not srun's"
    message = f"mpi4py of the system's python3 saw {saw}, not of {wanted.nodes}: {cause}"
    hint = "Another plug-in (srun --mpi=list), an MPI that speaks this one, or scheduler: {mpi: mpirun}."
    if stand.worlds:
        hint += f" {stand.worlds[0].library} wants {stand.worlds[0].wants}."
    yield Finding("warning", "MPI", message, path, hint)


def _places(ranks: Mapping[int, Mapping[str, str]]) -> Iterator[Finding]:
    if not ranks:
        return
    blind = sorted(values.get("node", "?") for values in ranks.values() if values.get("root") != "yes")
    if blind:
        message = f"not every node sees what was written to root on the login node: {', '.join(blind)}"
        yield Finding("problem", "Root", message, ("root",), "Choose a folder on a shared file system.")
    else:
        names = ", ".join(sorted(values.get("node", "?") for values in ranks.values()))
        yield Finding("ok", "Root", f"login node and {names} see the same root")


def _reach(site: Site, ranks: Mapping[int, Mapping[str, str]]) -> Iterator[Finding]:
    path = ("scheduler", "node_address_suffix")
    suffix = site.scheduler.node_address_suffix
    by = f"by their names and {suffix!r}" if suffix else "by their names"
    said = {rank: values.get("network", "nothing was said") for rank, values in ranks.items()}
    if set(said.values()) == {"alone"}:
        return
    bad = [
        (ranks[rank].get("node", "?"), words) for rank, words in sorted(said.items()) if words not in _WELL
    ]
    for node, words in bad:
        message = f"from {node}: {words or 'nothing was said'}"
        hint = (
            "Does node_address_suffix make an address of a node's name?" if suffix else "Is there a firewall?"
        )
        yield Finding("problem", "Network", message, path, hint)
    if not bad:
        how = "" if "slurmd" not in said.values() else " (at slurmd's port: there is no python3)"
        yield Finding("ok", "Network", f"nodes reach each other {by}{how}")


_WELL = ("well", "slurmd")


def _gpus(wanted: Wanted, ranks: Mapping[int, Mapping[str, str]]) -> Iterator[Finding]:
    if not wanted.gpus:
        return
    for _, values in sorted(ranks.items()):
        node, seen = (
            values.get("node", "?"),
            [part for part in values.get("gpus", "").split(",") if part.strip()],
        )
        smi = values.get("smi", "")
        if len(seen) < wanted.gpus:
            message = f"{node}: {wanted.gpus} were asked for, and CUDA_VISIBLE_DEVICES names {len(seen)}"
            yield Finding("problem", "GPUs", message, ("scheduler", "gpu_directive"), "See 'sinfo -o %G'.")
        elif smi.isdigit() and int(smi) < wanted.gpus:
            message = f"{node}: {wanted.gpus} were given, and nvidia-smi sees {smi}"
            yield Finding("problem", "GPUs", message, next="Tell those who run the cluster.")
        else:
            by = f", nvidia-smi sees {smi}" if smi.isdigit() else "; there is no nvidia-smi to look with"
            yield Finding("ok", "GPUs", f"{node}: {len(seen)} given{by}")


def _clocks(stand: Stand) -> Iterator[Finding]:
    times = [
        int(each["time"]) for each in stand.ranks.values() if re.fullmatch(r"\d{1,12}", each.get("time", ""))
    ]
    if len(times) < 2:
        return
    apart = max(times) - min(times)
    if apart > MOST_SKEW:
        message = f"the nodes' clocks are up to {apart} s apart"
        yield Finding("warning", "Clock", message, next="Tell those who run the cluster: NTP is not at work.")
    else:
        yield Finding("ok", "Clock", f"the nodes' clocks are at most {apart} s apart")
