"""ssh_config for fabric: what Include names, jump hosts, and files that settings name."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcrun.errors import UnreachableError
from hpcrun.models.site import Connection
from hpcrun.shells.fabric_way import route
from hpcrun.shells.ssh_config import paths, whole_text


def lookup(text: str, host: str) -> dict[str, object]:
    import paramiko

    return dict(paramiko.SSHConfig.from_text(text).lookup(host))


def config(folder: Path, text: str, name: str = "config") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def way(file: str, **more: object) -> list[tuple[str, int, str]]:
    given = {"type": "fabric", "host": "site", "ssh_config": file, **more}
    return [(hop.host, hop.port, hop.user) for hop in route(Connection.model_validate(given))]


def test_the_users_and_the_systems(tmp_path: Path) -> None:
    config(Path("~/.ssh").expanduser(), "Host a\n  Port 7", "config")
    assert lookup(whole_text(None), "a")["port"] == "7"
    # What is given stands instead of both.
    assert "port" not in lookup(whole_text(config(tmp_path, "Host b\n  Port 8")), "a")
    with pytest.raises(UnreachableError, match="there is no ssh_config"):
        whole_text(str(tmp_path / "nothing"))


def test_a_file_does_not_end_within_a_section(tmp_path: Path) -> None:
    text = whole_text(config(tmp_path, "Host a\n  Port 7")) + "User alice\n"
    assert lookup(text, "b")["user"] == "alice"


def test_includes(tmp_path: Path) -> None:
    home = Path("~/.ssh").expanduser()
    config(home, "Host a\n  Port 7\nHost b\n  Port 8\n", "more/one")
    config(home, "User alice\n", "more/two")
    config(tmp_path, "Host c\n  Port 9\n", "three words")
    text = f'Include more/*\nInclude "{tmp_path}/three words" nothing/*\nUser bob\nHost d\n  Port 10\n'
    whole = whole_text(config(tmp_path, text))
    found = {host: (lookup(whole, host).get("port"), lookup(whole, host)["user"]) for host in "abcde"}
    assert found == {
        "a": ("7", "alice"),
        "b": ("8", "alice"),
        "c": ("9", "alice"),
        "d": ("10", "alice"),
        "e": (None, "alice"),
    }


def test_an_include_within_a_section_is_the_sections(tmp_path: Path) -> None:
    config(tmp_path, "User alice\nHost a b\n  Port 7\n", "more")
    whole = whole_text(config(tmp_path, f"Host a\n  Include {tmp_path}/more\n  Compression yes\n"))
    # Sections in it would have to hold together with the one around: they are left out.
    assert lookup(whole, "a") == {"hostname": "a", "user": "alice", "compression": "yes"}
    assert lookup(whole, "b") == {"hostname": "b"}


def test_includes_that_never_end(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="more than 16 Includes"):
        whole_text(config(tmp_path, f"Include {tmp_path}/config\n"))


def test_files_that_a_setting_names(tmp_path: Path) -> None:
    home = Path("~").expanduser()
    assert paths({}, "x", "~/.ssh/a %d/b") == [home / ".ssh/a", home / "b"]
    assert paths({"x": "none"}, "x", "~/a") == []
    assert paths({"x": '"/a b" /c'}, "x", "") == [Path("/a b"), Path("/c")]
    (tmp_path / "with blanks in it").touch()
    assert paths({"x": f"{tmp_path}/with blanks in it"}, "x", "") == [tmp_path / "with blanks in it"]


def test_what_the_site_says_wins(tmp_path: Path) -> None:
    file = config(tmp_path, "Host site\n  HostName login.example.org\n  Port 7\n  User alice\n")
    assert way(file) == [("login.example.org", 7, "alice")]
    assert way(file, port=8, user="bob") == [("login.example.org", 8, "bob")]
    file = config(tmp_path, "Host site\n  ProxyCommand through %h %p as %r\n  Port 7\n")
    given = {"type": "fabric", "host": "site", "ssh_config": file, "port": 8, "user": "bob"}
    (hop,) = route(Connection.model_validate(given))
    assert hop.gateway == "through site 8 as bob"


JUMPS = """\
Host site
  HostName login.example.org
  ProxyJump one,bob@two:2222
Host one
  HostName one.example.org
  ProxyJump zero
Host two
  HostName two.example.org
  ProxyJump never
Host *
  User alice
"""


def test_the_way_over_jump_hosts(tmp_path: Path) -> None:
    file = config(tmp_path, JUMPS)
    before = [("zero", 22, "alice"), ("one.example.org", 22, "alice")]
    two, site = ("two.example.org", 2222, "bob"), ("login.example.org", 22, "alice")
    assert way(file) == [*before, two, site]
    assert way(file, jump="one") == [*before, site]
    assert way(file, jump="carol@elsewhere") == [("elsewhere", 22, "carol"), site]


def test_a_jump_host_needs_no_jump_to_itself(tmp_path: Path) -> None:
    everywhere = "Host door\n  HostName door.example.org\nHost *\n  ProxyJump door\n  User alice\n"
    assert way(config(tmp_path, everywhere)) == [("door.example.org", 22, "alice"), ("site", 22, "alice")]
    assert way(config(tmp_path, "Host *\n  ProxyJump none\n")) == way(config(tmp_path, ""))
    circle = "Host site\n ProxyJump a\nHost a\n ProxyJump b\nHost b\n ProxyJump a\n"
    assert [hop[0] for hop in way(config(tmp_path, circle))] == ["b", "a", "site"]


def test_conditions(tmp_path: Path) -> None:
    """One that paramiko does not know it would take for met: so that section is nobody's."""
    for unknown in (
        "localnetwork 10.0.0.0/8",
        "!tagged home",
        "host site tagged home",
        "host=site",
        "exec true",
    ):
        text = f"Match {unknown}\n  Port 7\n  Include {tmp_path}/more\nHost site\n  User alice\n"
        config(tmp_path, "Compression yes\n", "more")
        found = lookup(whole_text(config(tmp_path, text)), "site")
        assert found == {"hostname": "site", "user": "alice"}, unknown
    for known in ("Host site", "!host other", "all", 'originalhost "site"'):
        assert lookup(whole_text(config(tmp_path, f"Match {known}\n  Port 7\n")), "site")["port"] == "7", (
            known
        )
    for wrong in ("Match host\n  Port 7\n", "Match all host a\n"):
        with pytest.raises(UnreachableError, match="fabric cannot read the ssh_config"):
            way(config(tmp_path, wrong))
