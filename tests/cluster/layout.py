"""What lies in a cluster's folder, and what of it and of this machine the hosts see."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.cluster import conf
from tests.cluster.instance import Instance
from tests.cluster.options import SHARED, Options, address
from tests.cluster.procs import call
from tests.cluster.rootfs import USERS

CHECKOUT = Path(__file__).resolve().parents[2]

#: Where the daemons' logs of failed tests go.
ARTIFACTS = Path(os.environ.get("HPCRUN_TEST_ARTIFACTS") or CHECKOUT / "tests/_artifacts")
IMAGES = "/opt/images"  # where every host sees the test images


def prepare(instance: Instance, lower: Path) -> None:
    """Write every file a cluster needs before its hosts start."""
    folder, options = instance.folder, instance.options
    for host in options.hosts:
        for part in ("upper/etc", "work", "root"):
            _folder(folder / "hosts" / host / part)
        etc = folder / "hosts" / host / "upper/etc"
        _replace(etc / "hosts", conf.hosts_file(options, instance.number))
        _replace(etc / "hostname", f"{host}\n")
        _replace(etc / "resolv.conf", "")  # no name server: unknown names fail at once
    _folder(folder / "logs", 0o1777)
    _shared_folders(instance)
    write_slurm_files(instance, conf.slurm_settings(options))
    _write_slurmdbd_files(instance, lower)
    _write_ssh_files(instance)
    for user in USERS:
        fresh_home(instance, lower, user)
    for host in options.private_home:
        for user in USERS:
            _fill_home(instance, lower, user, folder / "hosts" / host / "upper/home" / user)


def _folder(path: Path, mode: int = 0o755) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    return path


def _shared_folders(instance: Instance) -> None:
    for name, mode in SHARED.items():
        path = _folder(instance.folder / name.strip("/"), mode)
        if name == "/small":
            call(["mount", "-t", "tmpfs", "-o", f"mode={mode:o},size=5m", instance.bridge, str(path)])


def write_slurm_files(instance: Instance, settings: dict[str, str]) -> None:
    """Write /etc/slurm as every host sees it."""
    options = instance.options
    etc = _folder(instance.folder / "etc/slurm")
    _replace(etc / "slurm.conf", conf.slurm_conf(settings, options, instance.number))
    _replace(etc / "gres.conf", conf.gres_conf(options))
    _replace(etc / "cgroup.conf", conf.cgroup_conf(options))


def _replace(path: Path, text: str) -> None:
    """Give a file new contents at once: a daemon may be reading it."""
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(text)
    unfinished.chmod(0o644)
    unfinished.replace(path)


def _write_slurmdbd_files(instance: Instance, lower: Path) -> None:
    etc = instance.folder / "etc/slurm"
    _replace(etc / "mariadb.sql", conf.mariadb_init())
    secret = etc / "slurmdbd.conf"
    secret.write_text(conf.slurmdbd_conf())
    secret.chmod(0o600)  # slurmdbd refuses to read it otherwise
    slurm = uid_in(lower, "slurm")
    os.chown(secret, slurm, slurm)


def _write_ssh_files(instance: Instance) -> None:
    etc = _folder(instance.folder / "etc/ssh")
    _folder(etc / "sshd_config.d")
    _replace(etc / "sshd_config", conf.sshd_config())
    keys = _folder(instance.folder / "ssh", 0o700)
    for user in USERS:
        _new_key(keys / user)
    new_host_key(instance)


def _new_key(path: Path) -> None:
    path.unlink(missing_ok=True)
    call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)])


def new_host_key(instance: Instance, *, known: bool = True) -> None:
    """Give sshd a new key; known says whether known_hosts is to learn of it."""
    key = instance.folder / "etc/ssh/ssh_host_ed25519_key"
    _new_key(key)
    if known:
        public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
        lines = [f"{host},{address(instance.number, host)} {public}" for host in instance.options.hosts]
        (instance.folder / "ssh/known_hosts").write_text("\n".join(lines) + "\n")


def write_one_time_codes(root: Path, codes: Sequence[str]) -> None:
    """Make PAM of a host, given its root, ask sshd's users for one of the codes."""
    _replace(root / "etc/pam.d/sshd", conf.ONE_TIME_CODE_PAM)
    check = root / "usr/local/sbin/take-code"
    _replace(check, conf.ONE_TIME_CODE_CHECK)
    check.chmod(0o755)
    _replace(root / "run/one-time-codes", "".join(f"{code}\n" for code in codes))


def fresh_home(instance: Instance, lower: Path, user: str) -> None:
    """Empty a user's shared home but for what a new account has, and its SSH key."""
    _fill_home(instance, lower, user, instance.folder / "home" / user)


def _fill_home(instance: Instance, lower: Path, user: str, home: Path) -> None:
    _folder(home, 0o755)
    empty(home)
    shutil.copytree(lower / "etc/skel", home, dirs_exist_ok=True)
    authorized = _folder(home / ".ssh", 0o700) / "authorized_keys"
    shutil.copyfile(instance.folder / f"ssh/{user}.pub", authorized)
    authorized.chmod(0o600)
    for path in (home, *home.rglob("*")):
        os.chown(path, USERS[user], USERS[user], follow_symlinks=False)


def empty(folder: Path) -> None:
    """Remove all that is in a folder, following no link."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)


def uid_in(lower: Path, user: str) -> int:
    """Uid of a user in the root file system, whatever this machine calls it."""
    for line in (lower / "etc/passwd").read_text().splitlines():
        if line.startswith(f"{user}:"):
            return int(line.split(":")[2])
    raise LookupError(f"no user {user} in {lower}")


def binds(instance: Instance, host: str, lower: Path, images: Path) -> list[tuple[str, str, str]]:
    """What a host sees besides its root: (ro or rw, folder of this machine, where)."""
    folder, options = instance.folder, instance.options
    shared = [name for name in SHARED if name != "/home" or host not in options.private_home]
    return [
        ("ro", str(folder / "etc/slurm"), "/etc/slurm"),
        ("ro", str(folder / "etc/ssh"), "/etc/ssh"),
        ("ro", str(images), IMAGES),
        ("rw", str(folder / "logs"), conf.LOGS),
        *(("rw", str(folder / name.strip("/")), name) for name in shared),
        *(("ro", path, path) for path in code_folders(options, lower)),
    ]


def code_folders(options: Options, lower: Path) -> list[str]:
    """The checkout, the virtual environment and its Python: at the same paths inside."""
    base = Path(sys.base_prefix)
    wanted = [CHECKOUT, Path(sys.prefix), Path(sys.executable).resolve().parent.parent]
    wanted += [Path(each).absolute() for each in options.binds]
    if base != Path("/usr"):
        wanted.append(base)
    else:
        # All of /usr would hide the root's own; the interpreter and its library do.
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        wanted.remove(base)
        if not (lower / "usr/bin" / python).exists():
            wanted += [base / "bin" / python, base / "lib" / python]
    return outermost(wanted)


def outermost(paths: Sequence[Path]) -> list[str]:
    """The paths that lie beneath no other of them, each once."""
    kept: list[Path] = []
    for path in sorted(set(paths), key=lambda each: len(each.parts)):
        if not any(path.is_relative_to(above) for above in kept):
            kept.append(path)
    return [str(path) for path in kept]
