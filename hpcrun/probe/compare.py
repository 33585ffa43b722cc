"""A site's file beside what the site said: what is gone, what has changed, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch

from hpcrun.models.site import Partition, Site
from hpcrun.probe.describe import choose_mpi, limits_of, login_pattern
from hpcrun.probe.facts import FAR_ROOT, Facts, Folder, Offered
from hpcrun.probe.findings import Code, Finding, Level
from hpcrun.units import human_bytes, human_seconds

MOST_SKEW = 60.0
"""Seconds by which clocks may differ; hpcrun itself bears minutes of it."""

LITTLE, LITTLE_SHARE = 1024 * 1024, 0.02
"""Of a disk that has less than this left, KiB and share, one is told."""

FEW = 10


def compare(site: Site, facts: Facts, skew: float = 0.0) -> list[Finding]:
    """What is wrong with ``site``, or may be, judged by what it said; ``skew`` is its clock's, in seconds."""
    found = [*_clock(skew), *_programs(site, facts), *_root(site, facts)]
    if site.scheduler.type != "slurm":
        return _placed(site, found)
    if not facts.slurm and not facts.answered:
        found.append(_no_slurm(site, facts))
        return _placed(site, found)
    found += _login(site, facts)
    if not facts.answered:
        message = f"Slurm's controller does not answer: {facts.trouble or 'it names no partition'}"
        found.append(
            Finding(
                "problem", "Slurm", message, next="Ask again later; 'scontrol ping' tells whether it is up."
            )
        )
    else:
        found += [*_partitions(site, facts), *_defaults(site, facts), *_scheduler(site, facts)]
    found += [*_accounts(site, facts), *_accounting(site, facts)]
    return _placed(site, found)


def _placed(site: Site, found: list[Finding]) -> list[Finding]:
    """The findings, each with the place in the file of what it is about, or of what that lies in."""
    placed = []
    for each in found:
        where, path = "", each.path
        while path and not where:
            place = site._origins.places.get(path)
            where, path = ("" if place is None else str(place)), path[:-1]
        placed.append(Finding(each.level, each.code, each.message, each.path, each.next, where))
    return placed


def _clock(skew: float) -> Iterator[Finding]:
    if abs(skew) > MOST_SKEW:
        message = (
            f"its clock is {human_seconds(abs(skew))} {'ahead of' if skew > 0 else 'behind'} this machine's"
        )
        yield Finding(
            "warning", "Clock", message, next="Which of the two is wrong? Times of runs will not fit."
        )


def _no_slurm(site: Site, facts: Facts) -> Finding:
    message = "there is no Slurm: neither PATH nor a login shell has sbatch"
    hint = (
        "If a module brings it, load it in ~/.bash_profile there; else this is another machine than is meant."
    )
    return Finding("problem", "Slurm", message, ("connection",), hint)


def _login(site: Site, facts: Facts) -> Iterator[Finding]:
    connection = site.connection
    if facts.by_login and not connection.login_shell:
        message = "Slurm's commands are on PATH in a login shell only"
        yield Finding("problem", "Login", message, ("connection",), "Write connection: {login_shell: true}.")
    name = facts.hostname
    if connection.type == "here" or not name or not connection.login_nodes:
        return
    if not any(fnmatch(each, p) for each in (name, name.partition(".")[0]) for p in connection.login_nodes):
        message = f"the login node is called {name}, which none of login_nodes fits"
        hint = f"Add {login_pattern(name) or name}: then this file will do there, too."
        yield Finding("note", "Login", message, ("connection", "login_nodes"), hint)


def _programs(site: Site, facts: Facts) -> Iterator[Finding]:
    there = facts.programs
    if "bash" not in there:
        yield Finding("problem", "Programs", "there is no bash, in which jobs are written")
    remote = site.connection.type != "here"
    if "git" not in there and ("rsync" not in there or not remote):
        without = "neither git nor rsync" if "rsync" not in there else "no git"
        yield Finding("problem", "Programs", f"there is {without}: no code can be brought there", next=_ASK)
    elif "git" not in there:
        yield Finding("note", "Programs", "there is no git: code is brought there by rsync", next=_ASK)
    elif "rsync" not in there and remote:
        yield Finding("warning", "Programs", "there is no rsync: results come home more slowly", next=_ASK)
    yield from _conda(site, facts)
    yield from _containers(site, facts)


_ASK = "If a module brings it, load it in ~/.bash_profile there and set connection.login_shell."


def _conda(site: Site, facts: Facts) -> Iterator[Finding]:
    root, key = site.conda.root, ("conda", "root")
    if root is not None and root not in facts.conda:
        message = f"there is no {root}/etc/profile.d/conda.sh"
        hint = f"There is one in {facts.conda[0]}." if facts.conda else "No other conda was found."
        yield Finding("problem", "Conda", message, key, hint)
    elif root is None and facts.conda and site.scheduler.type == "slurm":
        message = f"there is a conda in {facts.conda[0]}, of which the file says nothing"
        yield Finding("note", "Conda", message, key, f"conda: {{root: {facts.conda[0]}}}")


def _containers(site: Site, facts: Facts) -> Iterator[Finding]:
    wanted, there = site.apptainer.executable, facts.programs
    meant = "apptainer" in site.model_fields_set
    if "container" in there or wanted in there:
        return
    other = next((name for name in ("apptainer", "singularity") if name in there), "")
    if other and site.scheduler.type == "slurm":
        hint = f"apptainer: {{executable: {other}}}"
        message = f"there is no {wanted}, but {other}"
        yield Finding("problem" if meant else "note", "Container", message, ("apptainer", "executable"), hint)
    elif meant:
        hint = "If a module brings it, name it among the modules of the environments that need it."
        yield Finding("warning", "Container", f"there is no {wanted}", ("apptainer", "executable"), hint)


def _root(site: Site, facts: Facts) -> Iterator[Finding]:
    key, folder = ("root",), facts.folders.get("root")
    if site.root is None and site.connection.type != "here":
        message = f"the file says no root: runs lie in {FAR_ROOT} there"
        yield Finding(
            "note", "Root", message, key, "Is there more room elsewhere? root: $SCRATCH/hpcrun, say."
        )
    elif site.root is None:
        home = facts.folders.get("home")
        if home is not None:
            yield from _space(home, "the home folder")
        return
    if folder is None:
        return
    if not folder.path.startswith("/") or "$" in folder.path:
        hint = "A variable in it is not set there" + (" but in a login shell." if facts.profile else ".")
        yield Finding("problem", "Root", f"root is no path there: {folder.path}", key, hint)
        return
    if not folder.writable:
        message = f"{folder.path} cannot be written" if folder.there else f"{folder.path} cannot be made"
        yield Finding("problem", "Root", message, key, "Is it yours? Is a quota used up, or the disk full?")
    elif not folder.there:
        yield Finding("note", "Root", f"{folder.path} is not there yet; the first run makes it", key)
    if folder.type and not folder.shared and site.scheduler.type == "slurm":
        message = f"{folder.path} is on a file system that looks like this machine's own ({folder.type})"
        hint = f"Do the compute nodes see it? 'hpcrun site check {site.name} --job' finds out."
        yield Finding("warning", "Root", message, key, hint)
    yield from _space(folder, folder.path, key)


def _space(folder: Folder, name: str, key: tuple[str, ...] = ()) -> Iterator[Finding]:
    size, free = folder.size, folder.free
    if size is None or free is None or size == 0:
        return
    if free < LITTLE or free < size * LITTLE_SHARE:
        message = f"{name}: {human_bytes(max(0, free) * 1024)} left of {human_bytes(size * 1024)}"
        yield Finding(
            "problem" if free <= 1024 else "warning", "Disk", message, key, "Make room: 'hpcrun history gc'."
        )


def _partitions(site: Site, facts: Facts) -> Iterator[Finding]:
    for name, partition in site.partitions.items():
        key, there = ("partitions", name), facts.partitions.get(name)
        if there is None:
            hint = f"Take it out of the file. There are: {_some(facts)}"
            yield Finding("problem", "Partition", f"there is no partition {name}", key, hint)
            continue
        if there.closed:
            yield Finding("warning", "Partition", f"partition {name} is not for you: {there.closed}", key)
        if there.state != "UP":
            yield Finding("warning", "Partition", f"partition {name} is {there.state}", key)
        yield from _limits(name, partition, there)
    new = [n for n, each in facts.partitions.items() if n not in site.partitions and not each.closed]
    if site.partitions and new:
        message = f"the file does not list {_list(new)}"
        hint = "Runs there are refused until it does."
        yield Finding("note", "Partition", message, ("partitions",), hint)


def _list(names: list[str]) -> str:
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return f"{', '.join(names[:FEW])}{more}"


def _some(facts: Facts) -> str:
    return _list([name for name, each in facts.partitions.items() if not each.closed])


# Of memory and CPUs a file may well say less than there is: some of both is the system's.
_LIMITS: dict[str, tuple[Code, str, float]] = {
    "max_time": ("Time", "time", 1.0),
    "max_nodes": ("Nodes", "nodes", 1.0),
    "max_cpus_per_node": ("CPUs", "CPUs a node", 0.5),
    "max_memory_per_node": ("Memory", "memory a node", 0.75),
    "gpus_per_node": ("GPUs", "GPUs a node", 1.0),
}


def _limits(name: str, partition: Partition, there: Offered) -> Iterator[Finding]:
    limits = there.limits
    real = {
        "max_time": limits.time,
        "max_nodes": limits.nodes,
        "max_cpus_per_node": limits.cpus,
        "max_memory_per_node": limits.memory,
        "gpus_per_node": limits.gpus,
    }
    shown = dict(limits_of(limits))
    for key, (code, words, share) in _LIMITS.items():
        said, most, path = getattr(partition, key), real[key], ("partitions", name, key)
        if said is None or most is None:
            continue
        if said > most:
            message = f"{name}: the file says {words} {said}, and Slurm allows {shown.get(key, most)}"
            yield Finding("problem", code, message, path, f"{key}: {shown.get(key, most)}")
        elif said < most * share:
            message = f"{name}: the file says {words} {said}, and Slurm allows {shown.get(key, most)}"
            yield Finding("note", code, message, path, f"{key}: {shown.get(key, most)}, if runs may use it")
    gone = [kind for kind in partition.gpu_types if kind.lower() not in limits.gpu_types]
    if gone:
        has = ", ".join(limits.gpu_types) or "none of a type"
        message = f"{name}: there are no GPUs of type {', '.join(gone)}"
        yield Finding("problem", "GPUs", message, ("partitions", name, "gpu_types"), f"There are: {has}")


def _defaults(site: Site, facts: Facts) -> Iterator[Finding]:
    name = site.default_partition
    if name is not None and name not in facts.partitions:
        hint = f"There are: {_some(facts)}"
        yield Finding("problem", "Partition", f"there is no partition {name}", ("default_partition",), hint)
    elif name is not None and facts.partitions[name].closed:
        message = f"partition {name} is not for you: {facts.partitions[name].closed}"
        yield Finding("problem", "Partition", message, ("default_partition",), f"Yours are: {_some(facts)}")


def _scheduler(site: Site, facts: Facts) -> Iterator[Finding]:
    mpi, offered = site.scheduler.mpi, [name for name in facts.mpi if name != "none"]
    if facts.mpi and mpi not in ("default", "mpirun", *facts.mpi):
        best, _ = choose_mpi(facts)
        message = f"srun does not offer the plug-in {mpi}; it offers {', '.join(offered) or 'none'}"
        yield Finding("problem", "MPI", message, ("scheduler", "mpi"), f"scheduler: {{mpi: {best}}}")
    said, most, key = site.scheduler.max_array_size, facts.max_array_size, ("scheduler", "max_array_size")
    if most is not None and most >= 1 and said != most:
        message = f"the file says arrays of {said}, and Slurm's MaxArraySize is {most}"
        yield Finding("problem" if said > most else "note", "Array", message, key, f"max_array_size: {most}")


def _accounts(site: Site, facts: Facts) -> Iterator[Finding]:
    if not facts.accounts_known:
        return
    names = list(dict.fromkeys(each.name for each in facts.accounts))
    enforced = "associations" in facts.config.get("AccountingStorageEnforce", "")
    if not names:
        if enforced:
            message = f"Slurm knows no account of {facts.user or 'yours'}, and takes no job without one"
            yield Finding(
                "problem", "Account", message, next="Has it expired? Ask those who run the cluster."
            )
        return
    level: Level = "problem" if enforced else "warning"
    for path, name in (
        (("default_account",), site.default_account),
        (("defaults", "account"), site.defaults.account),
    ):
        if name is not None and name.lower() not in [each.lower() for each in names]:
            message, hint = f"you may not charge account {name}", f"You may charge: {_list(names)}"
            yield Finding(level, "Account", message, path, hint)
    qos = list(dict.fromkeys(name for each in facts.accounts for name in each.qos))
    if (
        site.defaults.qos is not None
        and qos
        and site.defaults.qos.lower() not in [each.lower() for each in qos]
    ):
        message, hint = f"you may not use QOS {site.defaults.qos}", f"You may use: {_list(qos)}"
        yield Finding(level, "QOS", message, ("defaults", "qos"), hint)


def _accounting(site: Site, facts: Facts) -> Iterator[Finding]:
    said, real, key = site.scheduler.accounting, facts.accounting, ("scheduler", "accounting")
    if said and real is False:
        message = "the file counts on sacct, and the cluster keeps no accounts of jobs"
        yield Finding("problem", "Accounting", message, key, "scheduler: {accounting: false}")
    elif said and not facts.sacct.ok and facts.sacct.rc is not None:
        message = f"sacct does not answer: {facts.sacct.why}"
        hint = "Until it does, hpcrun goes by squeue and what jobs say of themselves."
        yield Finding("warning", "Accounting", message, key, hint)
    elif not said and real and facts.sacct.ok:
        message = "sacct works, and the file says that it does not"
        yield Finding("note", "Accounting", message, key, "scheduler: {accounting: true}")
