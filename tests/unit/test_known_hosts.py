"""Whom known_hosts lets through. What ssh-keygen hashes and finds, this must find."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest

from hpcrun.errors import UnreachableError
from hpcrun.shells.known_hosts import HostKey, KnownHosts

BLOB = base64.b64decode("AAAAC3NzaC1lZDI1NTE5AAAAIBC6XpY3oqXmNrYmMMFq7rHxZGUC0qQ0cgT3cCqzkJwC")
KEY = HostKey("ssh-ed25519", BLOB)
OTHER = HostKey("ssh-ed25519", BLOB[:-1] + b"\7")
RSA = HostKey("ssh-rsa", b"\0\0\0\7ssh-rsa and so on")


def known(folder: Path, *lines: str) -> KnownHosts:
    path = folder / "known_hosts"
    path.write_text("".join(f"{line}\n" for line in lines))
    return KnownHosts([folder / "no such file", path])


def refusal(hosts: KnownHosts, name: str, key: HostKey = KEY) -> UnreachableError:
    with pytest.raises(UnreachableError) as caught:
        hosts.check(name, key)
    return caught.value


@pytest.mark.parametrize(
    ("names", "name"),
    [
        ("host", "host"),
        ("host", "HOST"),
        ("a,host,b", "host"),
        ("*.example.org", "login1.example.org"),
        ("login?.example.org", "login1.example.org"),
        ("*.example.org,!bad.example.org", "good.example.org"),
        ("[host]:2222", "[host]:2222"),
        ("[*.example.org]:2222", "[a.example.org]:2222"),
        ("10.0.0.*", "10.0.0.7"),
        ("::1", "::1"),
    ],
)
def test_names_that_fit(tmp_path: Path, names: str, name: str) -> None:
    known(tmp_path, f"{names} {KEY} a comment").check(name, KEY)


@pytest.mark.parametrize(
    ("names", "name"),
    [
        ("host", "hos"),
        ("host", "host.example.org"),
        ("host", "[host]:2222"),
        ("[host]:2222", "host"),
        ("[ab]ost", "aost"),
        ("*.example.org,!bad.example.org", "bad.example.org"),
        ("!bad.example.org", "good.example.org"),
        ("|1|no base64|either", "host"),
        ("|1|", "host"),
    ],
)
def test_names_that_do_not(tmp_path: Path, names: str, name: str) -> None:
    assert "no known_hosts file names it" in refusal(known(tmp_path, f"{names} {KEY}"), name).message


def test_hashed_names(tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen here")
    hosts = known(tmp_path, f"login.example.org,[login]:2222 {KEY}")
    path = tmp_path / "known_hosts"
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(path)], check=True, capture_output=True, timeout=20)
    assert "login" not in path.read_text()
    hosts = KnownHosts([path])
    hosts.check("login.example.org", KEY)
    hosts.check("[login]:2222", KEY)
    assert "no known_hosts file names it" in refusal(hosts, "login").message


def test_a_fingerprint_is_as_ssh_shows_it(tmp_path: Path) -> None:
    assert KEY.fingerprint == "SHA256:" + base64.b64encode(
        __import__("hashlib").sha256(BLOB).digest()
    ).decode().rstrip("=")
    if shutil.which("ssh-keygen") is not None:
        (tmp_path / "key.pub").write_text(f"{KEY}\n")
        argv = ["ssh-keygen", "-lf", str(tmp_path / "key.pub")]
        told = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout
        assert KEY.fingerprint in told


def test_another_key_than_the_known_one(tmp_path: Path) -> None:
    hosts = known(tmp_path, "# a comment", "", f"host {OTHER}", f"host {RSA}")
    error = refusal(hosts, "host")
    assert KEY.fingerprint in error.message and OTHER.fingerprint in error.message
    assert f"{tmp_path}/known_hosts:3, {tmp_path}/known_hosts:4" in str(error.hint)
    hosts.check("host", RSA)
    assert hosts.types("host") == ["ssh-ed25519", "ssh-rsa"] and hosts.types("other") == []


def test_marked_lines(tmp_path: Path) -> None:
    hosts = known(tmp_path, f"@cert-authority host {KEY}", f"@new-marker host {KEY}")
    assert "no known_hosts file names it" in refusal(hosts, "host").message
    hosts = known(tmp_path, f"host {KEY}", f"@revoked * {KEY}")
    assert "calls revoked" in refusal(hosts, "host").message
    hosts = known(tmp_path, f"host {KEY}", f"@revoked * {OTHER}")
    hosts.check("host", KEY)


def test_lines_that_nobody_can_read_are_passed_over(tmp_path: Path) -> None:
    lines = ["host", "host ssh-ed25519", "host ssh-ed25519 !!!", "\udcff", "@revoked", f"host {KEY}"]
    path = tmp_path / "known_hosts"
    path.write_bytes("\n".join(lines).encode(errors="surrogateescape"))
    KnownHosts([path]).check("host", KEY)


def test_what_the_hint_says_is_right(tmp_path: Path) -> None:
    error = refusal(known(tmp_path, "# nothing"), "[host]:2222")
    assert f"add to {tmp_path}/no such file:" in str(error.hint)
    known(tmp_path, str(error.hint).splitlines()[-1]).check("[host]:2222", KEY)
