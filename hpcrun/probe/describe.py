"""A site's file, written from what the site said: for hpcrun to read, and for a person to correct."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from hpcrun.check.limits import Limits
from hpcrun.config.dump import yaml_word
from hpcrun.models.site import Connection
from hpcrun.probe.facts import NAME, Facts, Folder
from hpcrun.units import Duration, Memory, human_bytes

WIDTH = 110
COLUMN = 34
"""Where remarks begin, if the line leaves room."""

GUESS, BLANK = "guess: ", "fill in: "
"""What the remarks begin with that a person should look at."""

_EASY = re.compile(r"[1-9]\d{0,5}[dhm]|[$/][$/\w.-]*", re.ASCII)

MOST_PARTITIONS = 300
SHOWN = 8


@dataclass
class _Page:
    """Lines of YAML. Whatever comes from the site goes through ``put`` or ``say``, which nothing escapes."""

    lines: list[str] = field(default_factory=list)

    def put(self, indent: int, key: str, value: str | int | bool | None = None, remark: str = "") -> None:
        """``key: value  # remark``"""
        said = "" if value is None else f" {_word(value)}"
        self._remark(f"{' ' * indent}{yaml_word(key)}:{said}", remark, indent)

    def item(self, indent: int, value: str, remark: str = "") -> None:
        self._remark(f"{' ' * indent}- {yaml_word(value)}", remark, indent)

    def say(self, text: str = "", indent: int = 0) -> None:
        """Remarks, wrapped."""
        from textwrap import wrap

        lead = f"{' ' * indent}# "
        self.lines += [f"{lead}{line}" for line in wrap(plain(text), WIDTH - len(lead))] or [lead.rstrip()]

    def gap(self) -> None:
        self.lines.append("")

    def _remark(self, line: str, remark: str, indent: int) -> None:
        remark = plain(remark)
        whole = f"{line:<{COLUMN}} # {remark}"
        if remark and len(whole) > WIDTH:
            self.say(remark, indent)
            remark = ""
        self.lines.append(whole if remark else line)


def _word(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    # Times and paths need no quotes, whatever else reads YAML.
    return value if isinstance(value, str) and _EASY.fullmatch(value) else yaml_word(value)


def plain(text: str, most: int = 600) -> str:
    """Text for a remark: one line, and nothing in it but what every reader shows."""
    shown = "".join(c if c.isprintable() and c < "\ufff0" else " " for c in text)
    return re.sub(r" {2,}", " ", shown).strip()[:most]


def describe(name: str, connection: Connection, facts: Facts, *, date: str, version: str) -> str:
    """The file for a site that was asked. ``date`` is today's, ``version`` hpcrun's."""
    page = _Page()
    _head(page, name, facts, date, version)
    page.put(0, "name", name)
    cluster = f", cluster {facts.cluster}" if facts.cluster else ""
    page.put(0, "description", plain(f"Slurm {facts.slurm}{cluster}"), f"{BLANK}a line for 'hpcrun site ls'")
    page.gap()
    _connection(page, connection, facts)
    _scheduler(page, facts)
    _root(page, connection, facts)
    _defaults(page, facts)
    _partitions(page, facts)
    _software(page, facts)
    return "\n".join(page.lines) + "\n"


def unfinished(name: str, connection: Connection, *, date: str) -> str:
    """The file for a site that can be asked only once somebody has logged in."""
    page = _Page()
    page.say(
        f"The site {name}, of which nothing is known yet: it lets nobody in without a password or a code."
    )
    page.say(
        f"Written on {date}. Next: 'hpcrun login {name}', then 'hpcrun site add {name}', which completes it."
    )
    page.put(0, "name", name)
    page.gap()
    _connection(page, connection, Facts())
    return "\n".join(page.lines).rstrip() + "\n"


def _head(page: _Page, name: str, facts: Facts, date: str, version: str) -> None:
    where = f" on {facts.hostname}" if facts.hostname else ""
    page.say(f"The site {name}, as it was found on {date}{where} by hpcrun {version}.")
    page.say(", ".join(word for word in (f"Slurm {facts.slurm}", facts.system) if word))
    page.say()
    page.say(f"Look at the lines that say '{GUESS.strip()}' or '{BLANK.strip()}': no command tells these.")
    page.say(
        f"'hpcrun site check {name}' compares this file with the cluster; 'hpcrun schema site' has all keys."
    )


def _connection(page: _Page, connection: Connection, facts: Facts) -> None:
    if connection.type == "here":
        page.say(
            "hpcrun runs on the cluster's own login node. To use this file from elsewhere, add the host."
        )
        page.put(0, "connection")
        page.put(2, "type", "here")
        page.gap()
        return
    page.put(0, "connection")
    page.put(2, "type", connection.type)
    for key in ("host", "user", "port", "jump", "ssh_config"):
        value = getattr(connection, key)
        if value is not None:
            page.put(2, key, value)
    if connection.two_factor:
        page.put(2, "two_factor", True, "nothing but 'hpcrun login' tries to get in")
    if facts.by_login or connection.login_shell:
        page.put(2, "login_shell", True, "Slurm's commands are on PATH only in a login shell")
    if connection.connect_timeout != Connection.model_fields["connect_timeout"].default:
        page.put(2, "connect_timeout", connection.connect_timeout)
    pattern = connection.login_nodes or ([login_pattern(facts.hostname)] if facts.hostname else [])
    if pattern and pattern[0]:
        page.put(2, "login_nodes", None, "on these machines hpcrun needs no ssh")
        for each in pattern:
            page.item(2, each, "" if connection.login_nodes else f"{GUESS}from the name {facts.hostname}")
    page.gap()


def login_pattern(hostname: str) -> str:
    """``int*.cluster.org`` of ``int4.cluster.org``; where the stem is too short, the name as it is."""
    first, dot, rest = hostname.partition(".")
    if first in ("localhost", "") or "*" in hostname:
        return ""
    stem = re.sub(r"\d+$", "", first)
    return f"{stem}*{dot}{rest}" if len(stem) >= 3 and stem != first else hostname


def _scheduler(page: _Page, facts: Facts) -> None:
    page.put(0, "scheduler")
    page.put(2, "gpu_directive", "gres", f"{GUESS}gpus-per-node where the site's own pages use that")
    mpi, why = choose_mpi(facts)
    page.put(2, "mpi", mpi, why)
    if facts.max_array_size is not None and 1 <= facts.max_array_size <= 1_000_000:
        page.put(2, "max_array_size", facts.max_array_size, "Slurm's MaxArraySize")
    if facts.accounting is not None:
        says = "sacct works" if facts.accounting else "the cluster keeps no accounts of jobs"
        if facts.accounting and not facts.sacct.ok:
            says = f"it keeps accounts, but sacct says: {facts.sacct.why}"
        page.put(2, "accounting", facts.accounting, says)
    page.say(f"{BLANK}what turns a node's name into its address on the fast network, if anything does", 2)
    page.lines.append('  # node_address_suffix: ".ib"')
    page.gap()


def choose_mpi(facts: Facts) -> tuple[str, str]:
    """srun's plug-in for MPI, and why that one."""
    offered = [name for name in facts.mpi if name != "none"]
    own = facts.config.get("MpiDefault", "none")
    listed = f"srun offers {', '.join(offered[:SHOWN])}" if offered else "srun offers none"
    if own.startswith("cray") or not offered:
        return "default", f"{listed}; the cluster's own is {own}"
    for wanted in ("pmix", "pmi2"):
        if wanted in offered:
            return wanted, listed
    versions = [name for name in offered if name.startswith("pmix")]
    if versions:
        return versions[0], listed
    return "default", f"{listed}; the cluster's own is {own}"


def _root(page: _Page, connection: Connection, facts: Facts) -> None:
    here = connection.type == "here"
    left_out = " Left out, run folders lie in the workspace itself." if here else ""
    about = "The folder that holds run folders; all nodes must see it. Variables, $SCRATCH say, are"
    page.say(f"{about} expanded there.{left_out}")
    root, folder = choose_root(facts)
    remark = f"{GUESS}{_space(folder)}" if folder is not None else f"{BLANK}a folder on a shared file system"
    if here:
        page.lines.append(f"# root: {_word(root)}")
        page.gap()
        return
    page.put(0, "root", root, remark)
    for other in sorted(facts.folders.values(), key=lambda each: each.path):
        if other is not folder and other.writable and other.size:
            page.say(f"also there: {other.path}: {_space(other)}")
    for line in facts.quota[:6]:
        page.say(f"quota: {line}")
    page.gap()


def choose_root(facts: Facts) -> tuple[str, Folder | None]:
    """A folder for runs: on scratch, if that is one that nodes share, else at home."""
    for key, variable in (("scratch", "SCRATCH"), ("work", "WORK")):
        folder = facts.folders.get(key)
        if folder is None or not folder.writable:
            continue
        if variable in facts.variables:
            return f"${variable}/hpcrun", folder
        if variable in facts.profile:
            # What a login shell alone knows is of no use in the path.
            return f"{_with_user(facts.profile[variable], facts.user)}/hpcrun", folder
    for name, folder in facts.folders.items():
        if name.startswith("other:") and folder.writable and folder.shared:
            return f"{_with_user(folder.path, facts.user)}/hpcrun", folder
    return "$HOME/hpcrun", facts.folders.get("home")


def _with_user(path: str, user: str) -> str:
    parts = ["$USER" if user and part == user else part for part in path.rstrip("/").split("/")]
    return "/".join(parts)


def _space(folder: Folder) -> str:
    free = f", {human_bytes(folder.free * 1024)} free" if folder.free is not None and folder.free >= 0 else ""
    look = "" if folder.shared else "; do all nodes see it?"
    return f"{folder.type or 'a file system of unknown kind'}{free}{look}"


def _defaults(page: _Page, facts: Facts) -> None:
    page.say("For runs that name none.")
    default = facts.default_partition
    if default and _listed(facts).get(default):
        page.put(0, "default_partition", default, "Slurm's own default")
    else:
        page.lines.append(f"# default_partition:               # {BLANK}Slurm has no default, or not for you")
    names = list(dict.fromkeys(each.name for each in facts.accounts))
    if facts.default_account in names or len(names) == 1:
        chosen = facts.default_account if facts.default_account in names else names[0]
        others = [name for name in names if name != chosen]
        more = f"; you may also charge {', '.join(others[:SHOWN])}" if others else ""
        page.put(0, "default_account", chosen, f"your default{more}")
    elif names:
        page.lines.append(f"# default_account: {plain(yaml_word(names[0]))}")
        page.say(f"{BLANK}you may charge {', '.join(names[:SHOWN])}")
    qos = list(dict.fromkeys(name for each in facts.accounts for name in each.qos))
    if qos:
        page.say(f"Your QOS: {', '.join(qos[:20])}. A run asks for one with resources: {{qos: NAME}}.")
    page.gap()
    page.say(f"{BLANK}resources of every run that says nothing else")
    page.lines += ["# defaults:", "#   time: 1h"]
    page.gap()


def _listed(facts: Facts) -> dict[str, bool]:
    usable = [name for name, each in facts.partitions.items() if not each.closed]
    return dict.fromkeys(usable[:MOST_PARTITIONS], True)


def _partitions(page: _Page, facts: Facts) -> None:
    listed = _listed(facts)
    if listed:
        page.say("A run that names a partition which is not listed here is refused.")
        page.put(0, "partitions")
    for name in listed:
        there = facts.partitions[name]
        said = [f"{there.limits.nodes} nodes" if there.limits.nodes else ""]
        said += [f"now {there.state}" if there.state != "UP" else ""]
        said += [
            f"{Duration(there.default_time).slurm} where a run says no time" if there.default_time else ""
        ]
        page.put(2, name, None, ", ".join(filter(None, said)))
        for key, value in limits_of(there.limits):
            page.put(4, key, value)
        kinds = [kind for kind in there.limits.gpu_types if NAME.fullmatch(kind)]
        if kinds:
            page.put(4, "gpu_types")
            for kind in kinds:
                page.item(4, kind)
    for name, there in list(facts.partitions.items())[:MOST_PARTITIONS]:
        if there.closed:
            page.say(f"not listed: {name} ({there.closed})", 2)
    if listed:
        page.gap()


def limits_of(limits: Limits) -> Iterator[tuple[str, str | int]]:
    """The keys of a partition in a site's file, for limits that can stand there."""
    if limits.time is not None and 0 < limits.time <= 365 * 86400 * 10:
        yield "max_time", short_time(limits.time)
    if limits.nodes is not None and 1 <= limits.nodes <= 1_000_000:
        yield "max_nodes", limits.nodes
    if limits.cpus is not None and 1 <= limits.cpus <= 1_000_000:
        yield "max_cpus_per_node", limits.cpus
    if limits.memory is not None and 1 <= limits.memory <= 1024**4:
        yield "max_memory_per_node", Memory(limits.memory).slurm
    if limits.gpus:
        yield "gpus_per_node", limits.gpus


def short_time(seconds: int) -> str:
    """``2d``, ``36h``, ``90m``, as people write it; the odd one as Slurm does."""
    for letter, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{letter}"
    return Duration(seconds).slurm


def _software(page: _Page, facts: Facts) -> None:
    if facts.conda:
        page.put(0, "conda")
        page.put(2, "root", facts.conda[0], "")
        for other in facts.conda[1:4]:
            page.say(f"also there: {other}", 2)
    else:
        found = [f"{name} is {path}" for name, path in facts.solvers.items()]
        page.say(f"No conda was found{'; ' + ', '.join(found) if found else ''}. If there is one after all:")
        page.lines += ["# conda:", "#   root: /path/to/miniforge3"]
    page.gap()
    if "apptainer" in facts.programs or "singularity" in facts.programs:
        program = "apptainer" if "apptainer" in facts.programs else "singularity"
        page.put(0, "apptainer", None, facts.programs[program])
        page.put(2, "executable", program)
        page.gap()
    if facts.modules:
        many = f"{'more than ' if facts.more_modules else ''}{len(facts.modules)}"
        page.say(
            f"There are {many} modules: {', '.join(facts.modules[:SHOWN])}, … To load some for every run:"
        )
        page.lines += ["# modules:", f"# - {plain(yaml_word(facts.modules[0]))}"]
        page.gap()
    if any(each.limits.gpus for each in facts.partitions.values()):
        page.say(f"{BLANK}what your site tells about its network, for NCCL")
        page.lines += ["# nccl:", "#   NCCL_SOCKET_IFNAME: ib0"]
        page.gap()
    there = [
        f"{name} {_number(facts.programs[name])}"
        for name in ("git", "rsync", "python")
        if name in facts.programs
    ]
    page.say(f"On the login node: {', '.join(there) or 'neither git, rsync nor python3'}.")


def _number(text: str) -> str:
    match = re.search(r"\d[\w.]{0,20}", text)
    return match[0] if match is not None else "of unknown version"
