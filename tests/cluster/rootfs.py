"""Build the root file system that every host of the virtual cluster shares.

It is a plain Debian with Slurm, munge, MariaDB, OpenSSH, Open MPI and Apptainer,
kept outside the checkout under a hash of its recipe, so a changed recipe builds
anew and an unchanged one costs nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.procs import ClusterError, call

Say = Callable[[str], None]

SUITES = ("trixie", "bookworm", "sid")

#: Users of the cluster and their uids, the same on every host.
USERS = {"alice": 2001, "bob": 2002}

HOST_PACKAGES = {  # command on this machine -> Debian package that brings it
    "debootstrap": "debootstrap",
    "rsync": "rsync",
    "ip": "iproute2",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "mount": "mount",
    "ssh-keygen": "openssh-client",
    # Shells that scripts and completions are tried in, beside Debian's own.
    **{shell: shell for shell in ("busybox", "fish", "zsh")},
}

PACKAGES = (
    *("ca-certificates", "python3", "python3-venv", "iproute2", "iputils-ping", "procps"),
    *("hostname", "less", "tini", "faketime", "netbase", "munge", "slurmctld", "slurmd"),
    *("slurmdbd", "slurm-client", "mariadb-server", "openssh-server", "openssh-client"),
    *("rsync", "git", "openmpi-bin", "python3-mpi4py", "squashfs-tools", "squashfuse"),
    *("fuse3", "uidmap", "libseccomp2", "libsqlite3-0", "busybox-static"),
    "environment-modules",
)

#: What only the tests on one suite need: the others' roots stay as they are.
PACKAGES_OF = {"trixie": ("cron",)}

#: Not in every suite, and too new for the oldest: taken from sid when it fits.
FROM_SID = ("apptainer", "containernetworking-plugins")

#: Links a suite forgot: bookworm's Slurm looks for PMIx by its development name.
_LINKS = {"bookworm": ("usr/lib/*/pmix2/lib", "libpmix.so", "libpmix.so.2")}

_RECIPE = "1"  # raise to force a new build when the steps below change
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def say(line: str) -> None:
    """Tell the person at the terminal what is going on."""
    print(f"cluster: {line}", file=sys.stderr, flush=True)


def _cache_dir() -> Path:
    given = os.environ.get("HPCRUN_TEST_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(base) / "hpcrun-tests"


#: Where built roots are kept: outside the checkout, shared by all checkouts.  Looked
#: up once, for tests run with another HOME than the person's.
CACHE = _cache_dir()


def recipe_key(suite: str) -> str:
    """Hash of all that decides what is in the root."""
    special = (*_LINKS.get(suite, ()), *PACKAGES_OF.get(suite, ()))
    recipe = repr((_RECIPE, suite, PACKAGES, FROM_SID, sorted(USERS.items()), *special))
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def rootfs(suite: str = "trixie", say: Say = say) -> Path:
    """The root file system of a suite; built first when the cache lacks it (minutes)."""
    if suite not in SUITES:
        raise ClusterError(f"no recipe for Slurm of {suite!r}; there are {', '.join(SUITES)}")
    return build_once(CACHE / f"rootfs-{suite}-{recipe_key(suite)}", lambda into: _build(suite, into, say))


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """Make target by build(temporary name) and a rename; one builder at a time."""
    if not target.exists():
        with _locked(target):
            if not target.exists():
                unfinished = target.with_name(f".unfinished-{target.name}")
                _remove(unfinished)  # left by a builder that died: the lock is ours
                umask = os.umask(0o022)
                try:
                    build(unfinished)
                finally:
                    os.umask(umask)
                unfinished.rename(target)
    return target


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def ensure_host_packages(say: Say = say) -> None:
    """Install, by apt-get, the few commands this machine itself must have."""
    missing = sorted({pkg for cmd, pkg in HOST_PACKAGES.items() if shutil.which(cmd) is None})
    if not missing:
        return
    say(f"installing on this machine: {', '.join(missing)}")
    call(["apt-get", "update", "-qq"], timeout=300)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    call(["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing],
         timeout=600, env=quiet)  # fmt: skip


def mirror() -> str:
    """The Debian mirror that this machine's own apt uses."""
    told = call(["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"])
    sites = [site for site in told.stdout.split() if not site.rstrip("/").endswith("security")]
    if not sites:
        raise ClusterError("this machine's apt names no Debian mirror; run 'apt-get update' first")
    return sites[0]


def _build(suite: str, root: Path, say: Say) -> None:
    started = time.monotonic()
    ensure_host_packages(say)
    say(f"building the {suite} root file system in {root.parent} (2 to 4 minutes, once)")
    say("  1/3 debootstrap: Debian, Slurm, MariaDB, OpenSSH, Open MPI")
    _debootstrap(suite, root)
    say("  2/3 Apptainer")
    if suite == "bookworm":
        say("      left out: sid's build needs a newer libc than bookworm's")
    else:
        _add_from_sid(suite, root)
    say("  3/3 users, and a clean-up")
    _finish(suite, root)
    say(f"root file system ready after {time.monotonic() - started:.0f} s")


def in_namespaces(argv: list[str], timeout: float) -> None:
    """Run with mounts and processes of its own: both end with it, come what may."""
    call(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *argv],
        timeout=timeout,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
    )


def _debootstrap(suite: str, root: Path) -> None:
    include = f"--include={','.join(PACKAGES)}"
    argv = ["debootstrap", "--variant=minbase", include, suite, str(root), mirror()]
    # A suite newer than this machine's debootstrap has no script of its own name.
    if not Path("/usr/share/debootstrap/scripts", suite).exists():
        argv.append("/usr/share/debootstrap/scripts/sid")
    in_namespaces(argv, timeout=1800)


def _add_from_sid(suite: str, root: Path) -> None:
    """Let this machine's apt, told to see the root's packages, fetch sid's debs."""
    private = root / "var/tmp/from-sid"
    (private / "state/lists/partial").mkdir(parents=True)
    (private / "cache/archives/partial").mkdir(parents=True)
    sources = private / "sources.list"
    lines = [f"deb [signed-by={_KEYRING}] {mirror()} {each} main" for each in {suite, "sid"}]
    sources.write_text("\n".join(lines) + "\n")
    settings = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "-",
        "Dir::Etc::PreferencesParts": "-",
        "Dir::State": private / "state",
        "Dir::State::status": root / "var/lib/dpkg/status",
        "Dir::Cache": private / "cache",
        "APT::Default-Release": suite,  # only what the suite lacks comes from sid
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-qq", *(w for k, v in settings.items() for w in ("-o", f"{k}={v}"))]
    call([*apt, "update"], timeout=300)
    wanted = ["install", "-y", "--download-only", "--no-install-recommends", *FROM_SID]
    wanted += PACKAGES_OF.get(suite, ())
    call([*apt, *wanted], timeout=600)
    debs = sorted(f"/{d.relative_to(root)}" for d in (private / "cache/archives").glob("*.deb"))
    # What another one must be there for before it is unpacked comes last, by itself.
    last = [deb for deb in debs if Path(deb).name.partition("_")[0] in PACKAGES_OF.get(suite, ())]
    for some in ([deb for deb in debs if deb not in last], last):
        if some:
            in_namespaces(["chroot", str(root), "dpkg", "--install", *some], timeout=600)
    shutil.rmtree(private)


def _finish(suite: str, root: Path) -> None:
    for user, uid in USERS.items():
        add = ["useradd", "--uid", str(uid), "--no-create-home", "--shell", "/bin/bash"]
        # "*": no password fits, yet sshd does not take the account for a locked one.
        in_namespaces(["chroot", str(root), *add, "--password", "*", user], timeout=60)
    if suite in _LINKS:
        folders, link, target = _LINKS[suite]
        for folder in root.glob(folders):
            (folder / link).symlink_to(target)
    for pattern in ("etc/ssh/ssh_host_*", "var/cache/apt/archives/*.deb", "var/lib/apt/lists/*"):
        for path in root.glob(pattern):
            _remove(path)
