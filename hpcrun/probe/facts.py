"""What a site said, in values. What cannot be read, or is no name that Slurm could mean, is left out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hpcrun.check.limits import Limits
from hpcrun.probe.answers import MOST, NOTHING, Answer

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}", re.ASCII)
"""What Slurm takes for the name of a partition, an account, a plug-in."""

SHARED = (
    *("nfs", "lustre", "gpfs", "beegfs", "fhgfs", "ceph", "smb", "cifs", "afs", "panfs", "wekafs", "fuse"),
    *("gfs", "ocfs2", "pvfs", "orangefs", "daos", "vastfs", "quobyte", "0x19830326", "0x47504653"),
)
"""How stat(1) calls file systems that machines share, by their beginnings; the last are BeeGFS and GPFS."""

_PATH = re.compile(r"/[^\x00-\x1f\x7f-\xa0\u2028\u2029]{0,1000}")
_DF = re.compile(r"(\S+)\s+(\d{1,18})\s+(\d{1,18})\s+(-?\d{1,18})\s+(?:\d+%|-)\s+/")


@dataclass(frozen=True)
class Folder:
    """A folder there, or one that may be made: its file system, size and free space in KiB."""

    path: str
    there: bool
    writable: bool
    type: str = ""
    device: str = ""
    size: int | None = None
    free: int | None = None

    @property
    def shared(self) -> bool:
        """Whether its file system is one that machines share, by its name; some are, and do not look it."""
        return self.type.lower().startswith(SHARED) or ":" in self.device


@dataclass(frozen=True)
class Offered:
    """A partition as Slurm has it; ``closed`` says why this user cannot use it."""

    limits: Limits
    default: bool = False
    state: str = "UP"
    default_time: int | None = None
    closed: str = ""


@dataclass(frozen=True)
class Account:
    """An account that may be charged, in one partition or in all, with these QOS."""

    name: str
    partition: str = ""
    qos: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """All that a site said. Empty text, or nothing at all, where it did not say.

    ``answered``: Slurm's controller did; else ``trouble`` says why not. ``by_login``: Slurm's commands are
    found only with what the user's profile sets. ``variables`` are SCRATCH and WORK as a plain shell has
    them, ``profile`` as a login shell has them. ``programs``: the first line that each says of its version.
    """

    whole: bool = False
    time: int | None = None
    user: str = ""
    hostname: str = ""
    system: str = ""
    slurm: str = ""
    by_login: bool = False
    answered: bool = False
    trouble: str = ""
    config: Mapping[str, str] = field(default_factory=dict)
    partitions: Mapping[str, Offered] = field(default_factory=dict)
    mpi: tuple[str, ...] = ()
    accounts: tuple[Account, ...] = ()
    accounts_known: bool = False
    default_account: str = ""
    sacct: Answer = NOTHING
    programs: Mapping[str, str] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    more_modules: bool = False
    conda: tuple[str, ...] = ()
    solvers: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    profile: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, Folder] = field(default_factory=dict)
    quota: tuple[str, ...] = ()

    @property
    def accounting(self) -> bool | None:
        """Whether the cluster keeps accounts of jobs at all; None where nobody says."""
        # "(null)" since 23.02, accounting_storage/none before.
        kind = self.config.get("AccountingStorageType", "")
        return kind.endswith("/slurmdbd") if self.config else None

    @property
    def max_array_size(self) -> int | None:
        size = self.config.get("MaxArraySize", "")
        return int(size) if re.fullmatch(r"[0-9]{1,9}", size) else None

    @property
    def cluster(self) -> str:
        return self.config.get("ClusterName", "")

    @property
    def default_partition(self) -> str:
        """The one that Slurm takes where a job names none."""
        return next((name for name, each in self.partitions.items() if each.default), "")

    def skew(self, before: float, after: float) -> float:
        """Seconds by which its clock is ahead of ours (behind: negative), asked between these times."""
        if self.time is None:
            return 0.0
        # It tells whole seconds, cut off.
        return max(0.0, self.time - after) + min(0.0, self.time + 1 - before)


Answers = Mapping[str, Sequence[Answer]]


def read_facts(answers: Answers, partitions: Mapping[str, Offered], accounts: Sequence[Account]) -> Facts:
    """The facts in the answers. Slurm's own tables are read by who knows Slurm's text, and given here."""

    def one(name: str) -> Answer:
        found = answers.get(name)
        return found[0] if found else NOTHING

    asked = one("partitions")
    config = read_config(one("config").lines)
    slurm = config.get("SLURM_VERSION", "") or version(one("slurm"))
    conda = one("conda").values
    modules = read_modules(one("modules"))
    return Facts(
        whole="end" in answers,
        time=_time(one("date").first),
        user=_word(one("user").first),
        hostname=_word(one("hostname").first),
        system=", ".join(line.strip() for line in reversed(one("system").lines) if line.strip())[:200],
        slurm=slurm,
        by_login="by_login" in answers,
        answered=asked.ok and bool(partitions),
        trouble="" if asked.ok else asked.why,
        config=config,
        partitions={name: each for name, each in partitions.items() if NAME.fullmatch(name)},
        mpi=read_mpi(one("mpi").lines),
        accounts=tuple(each for each in accounts if NAME.fullmatch(each.name)),
        accounts_known=one("accounts").ok,
        default_account=_word(one("default_account").first) if one("default_account").ok else "",
        sacct=one("sacct"),
        programs={name: one(name).first[:200] for name in PROGRAMS if one(name).ok and one(name).first},
        modules=modules,
        more_modules=sum(map(len, one("modules").lines)) > MOST - 4096,
        conda=tuple(
            dict.fromkeys(
                path for each in answers.get("conda_root", ()) for path in [_path(each.first)] if path
            )
        ),
        solvers={name: path for name in ("mamba", "micromamba") if (path := _path(conda.get(name, "")))},
        variables=_paths(one("plain").values),
        profile=_paths(one("login").values),
        folders=_folders(answers),
        quota=tuple(line for name in ("quota", "lfs_quota") if one(name).ok for line in one(name).lines)[:20],
    )


PROGRAMS = ("git", "rsync", "python", "bash", "apptainer", "singularity", "container")


def version(answer: Answer) -> str:
    """``24.11.5`` of ``slurm-wlm 24.11.5``."""
    match = re.search(r"\d+\.\d+[\w.-]{0,30}", answer.first) if answer.ok else None
    return match[0] if match is not None else ""


def read_config(lines: Sequence[str]) -> dict[str, str]:
    """``scontrol show config``, by key; what stands for nothing is left out."""
    found = {}
    for line in lines:
        key, equals, value = line.partition("=")
        if equals and NAME.fullmatch(key.strip()) and value.strip() not in ("", "(null)", "N/A"):
            found[key.strip()] = value.strip()[:500]
    return found


def read_mpi(lines: Sequence[str]) -> tuple[str, ...]:
    """The plug-ins that ``srun --mpi=list`` names, those with versions behind the others."""
    plain, special = [], []
    for line in lines:
        text = re.sub(r"^srun:\s*", "", line.strip())
        listed = re.match(r"specific pmix plugin versions available:\s*(.*)", text)
        if listed is not None:
            special += [name.strip() for name in listed[1].split(",")]
        elif NAME.fullmatch(text):
            plain.append(text)
    return tuple(dict.fromkeys(name for name in plain + special if NAME.fullmatch(name)))


def read_modules(answer: Answer) -> tuple[str, ...]:
    """The modules of ``module -t avail``; its lines that end with a colon are folders."""
    if not answer.ok:
        return ()
    names = (re.sub(r"\((?:default|D|@|L|,)+\)$", "", line.strip()) for line in answer.lines)
    return tuple(dict.fromkeys(name for name in names if re.fullmatch(r"[\w.+/@-]{1,100}", name, re.ASCII)))


def _folders(answers: Answers) -> dict[str, Folder]:
    found = {}
    for name, given in answers.items():
        kind, colon, which = name.partition(":")
        if kind != "folder" or not colon or not given:
            continue
        values = given[0].values
        path = values.get("path", "")
        space = _DF.match(values.get("df", ""))
        device, size, free = (
            (space[1], int(space[2]), int(space[4])) if space is not None else ("", None, None)
        )
        found[which] = Folder(
            path[:1000],
            values.get("there") == "yes",
            values.get("writable") == "yes",
            values.get("type", "")[:40],
            device[:200],
            size,
            free,
        )
    return found


def _paths(values: Mapping[str, str]) -> dict[str, str]:
    return {name.upper(): path for name in ("scratch", "work") if (path := _path(values.get(name, "")))}


def _path(text: str) -> str:
    return text if _PATH.fullmatch(text) else ""


def _word(text: str) -> str:
    return text if NAME.fullmatch(text) else ""


def _time(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,12}", text) else None
