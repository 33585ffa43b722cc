"""A .bashrc that talks, to anybody and about anything, harms no answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from hpcrun.errors import UnreachableError
from hpcrun.shells.openssh import OpenSshShell
from tests.cluster.cluster import Cluster
from tests.ssh_help import connection, private_runtime, ssh_config

pytestmark = pytest.mark.cluster

NOISE = {
    "lines": "echo Welcome to the cluster; echo Quota: 99%",
    "on stderr": "echo module: command not found >&2; printf 'half a line' >&2",
    "half a line": "printf 'no newline at the end'",
    "megabytes": "head -c 5000000 /dev/zero | tr '\\0' x; head -c 3000000 /dev/zero | tr '\\0' y >&2",
    "binary": "head -c 100000 /dev/urandom; head -c 100000 /dev/urandom >&2",
    "marks": "printf '\\nhpcrun-0123-end 0\\n'; printf '\\nhpcrun-0123\\n' >&2",
    "an error": "no-such-program; false",
    "colours": "printf '\\033[2J\\033]0;title\\007'",
    "a trap": "trap 'echo bye; echo bye >&2' EXIT",
    "options": "set -u; set -f; alias printf=false exec=false; printf() { false; }; IFS=x; cd /tmp",
    "a job": "sleep 30 >/dev/null 2>&1 </dev/null &",
    "exports": "export BASH_ENV=/nowhere ENV=/nowhere IFS=x LC_ALL=C",
}


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from private_runtime(monkeypatch)


@pytest.fixture
def config(cluster: Cluster, tmp_path: Path) -> Path:
    return ssh_config(cluster, tmp_path)


@pytest.mark.parametrize("login_shell", [False, True])
def test_every_noise_harms_nothing(cluster: Cluster, config: Path, login_shell: bool) -> None:
    shell = OpenSshShell(connection(config, login_shell=login_shell))
    data = os.urandom(200_000)
    for name, source in NOISE.items():
        for file in (".bashrc", ".bash_profile"):
            cluster.write(f"/home/alice/{file}", f"{source}\n")
        got = bytearray()
        result = shell.script("cat; echo err >&2; exit 3", timeout=30, stdin=BytesIO(data), sink=got.extend)
        assert (result.rc, result.stderr, bytes(got) == data) == (3, "err\n", True), name
        result = shell.run(["printf", "%s|", "a b", "", "ü'\"\r\n"], timeout=30)
        assert (result.rc, result.stdout, result.stderr) == (0, "a b||ü'\"\r\n|", ""), name
    assert shell.noisy


def test_a_quiet_one_is_known_for_quiet(cluster: Cluster, config: Path) -> None:
    shell = OpenSshShell(connection(config))
    assert shell.run(["true"], timeout=20).ok
    assert not shell.noisy


@pytest.mark.parametrize("source", ["exit 0", "exit 1", "cat >/dev/null", "read word; echo you said $word"])
def test_one_that_takes_the_question_away_is_found_out(cluster: Cluster, config: Path, source: str) -> None:
    cluster.write("/home/alice/.bashrc", f"echo a word before\n{source}\n")
    shell = OpenSshShell(connection(config))
    with pytest.raises(UnreachableError, match="did not carry out what it was sent: ") as caught:
        shell.script("touch was-here", timeout=10)
    assert caught.value.hint is not None
    assert ".bashrc" in caught.value.hint
    assert not (cluster.home() / "was-here").exists()


@pytest.mark.parametrize("program", ["/bin/dash", "/usr/bin/python3", "/usr/sbin/nologin"])
def test_other_login_shells(cluster: Cluster, config: Path, program: str) -> None:
    cluster.run("login", ["usermod", "-s", program, "alice"], user="root")
    try:
        shell = OpenSshShell(connection(config))
        if program == "/bin/dash":
            assert shell.run(["echo", "$HOME"], timeout=20).stdout == "$HOME\n"
        else:
            with pytest.raises(UnreachableError, match="did not carry out"):
                shell.run(["true"], timeout=20)
    finally:
        cluster.run("login", ["usermod", "-s", "/bin/bash", "alice"], user="root")
