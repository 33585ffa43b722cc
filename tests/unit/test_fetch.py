"""Getting files by name: with a real rsync, by way of a shell that stays on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from hpcrun.errors import CommandError, UnreachableError
from hpcrun.names import PARTIAL
from hpcrun.shells import framing
from hpcrun.shells.base import Result, Rsh
from hpcrun.shells.framed import FramedShell
from hpcrun.shells.streams import Asked
from hpcrun.transfer.fetch import fetch
from hpcrun.transfer.manifest import Entry, Manifest, is_here, list_files, missing

RUN = "exp_20261101-120000_abcdefgh"


class NoFurther(FramedShell):
    """A remote shell whose other machine is this one."""

    def __init__(self, folder: Path) -> None:
        super().__init__("near")
        self._ssh = folder / "ssh"
        self._ssh.write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
        self._ssh.chmod(0o755)

    def _talk(self, asked: Asked) -> Result:
        return asked.put(["/bin/sh", "-c", framing.READ], {"PATH": "/usr/bin:/bin"}).result

    @contextmanager
    def rsh(self) -> Iterator[Rsh]:
        yield Rsh([str(self._ssh)], "near")

    def close(self) -> None:
        pass


class Pair:
    """A run there, and its folder here."""

    def __init__(self, folder: Path) -> None:
        self.shell = NoFurther(folder)
        self.runs_there, self.runs = folder / "it's there/runs", folder / "here"
        self.there, self.here = self.runs_there / RUN / "code/outputs", self.runs / RUN / "code/outputs"
        self.there.mkdir(parents=True)
        self.here.mkdir(parents=True)

    def listing(self) -> Manifest:
        return list_files(self.shell, str(self.runs_there), [RUN], self.runs)[RUN]

    def fetch(self, entries: Sequence[Entry], progress: Callable[[int], None] | None = None) -> str:
        """What is to be said of it."""
        wanted = [(RUN, entry) for entry in entries]
        done = fetch(self.shell, str(self.runs_there), self.runs, wanted, progress)
        return done.note or done.complaint

    def absent(self) -> list[str]:
        manifest = self.listing()
        found = missing(self.runs / RUN, manifest.files, manifest.same)
        return sorted(entry.name for entry in found)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def fake_rsync(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str) -> None:
    """A failure that a real rsync has now and then."""
    (folder / "bin").mkdir()
    program = folder / "bin/rsync"
    program.write_text(f"#!/bin/sh\ncat >/dev/null\ncat >&2 <<'END'\n{said}\nEND\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")


def test_there_and_back(pair: Pair) -> None:
    (pair.there / "a").write_text("1")
    (pair.there / "d").mkdir()
    (pair.there / "d/b\nc").write_text("2" * 100_000)
    (pair.there / "d/l").symlink_to("../a")
    came: list[int] = []
    assert pair.absent() == ["outputs/a", "outputs/d/b\nc", "outputs/d/l"]
    assert pair.fetch(pair.listing().files, came.append) == ""
    assert pair.absent() == [] and sum(came) == 100_001


def test_as_long_and_of_the_same_second_is_not_the_same(pair: Pair) -> None:
    (pair.there / "a").write_text("1")
    os.utime(pair.there / "a", ns=(1_700_000_000_100_000_000,) * 2)
    pair.fetch(pair.listing().files)
    (pair.there / "a").write_text("2")
    os.utime(pair.there / "a", ns=(1_700_000_000_900_000_000,) * 2)
    assert pair.absent() == ["outputs/a"]
    pair.fetch(pair.listing().files)
    assert (pair.here / "a").read_text() == "2" and pair.absent() == []


def test_what_looks_the_same_through_a_link_is_not_here(pair: Pair) -> None:
    """A folder here is a link, from when it was one there."""
    (pair.there / "d").mkdir()
    (pair.there / "d/a").write_text("1")
    (pair.here / "e").mkdir()
    (pair.here / "e/a").write_text("2")
    for folder in (pair.there / "d", pair.here / "e"):
        os.utime(folder / "a", ns=(1_700_000_000_100_000_000,) * 2)
    (pair.here / "d").symlink_to("e")
    assert pair.absent() == ["outputs/d/a"]
    pair.fetch(pair.listing().files)
    assert (pair.here / "d/a").read_text() == "1" and (pair.here / "e/a").read_text() == "2"


def test_a_file_that_becomes_a_link_after_the_listing_is_not_kept(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    for name in ("absolute", "beside"):
        (pair.there / name).write_text("1")
    (pair.there / "good").write_text("1")
    entries = pair.listing().files
    for name, leads in (("absolute", str(tmp_path / "secret")), ("beside", "../../../other/run.json")):
        (pair.there / name).unlink()
        (pair.there / name).symlink_to(leads)
    pair.fetch(entries)
    assert [p.name for p in pair.here.iterdir()] == ["good"]


def test_a_file_that_is_gone_after_the_listing_is_no_error(pair: Pair) -> None:
    for name in "ab":
        (pair.there / name).write_text(name)
    entries = pair.listing().files
    (pair.there / "a").unlink()
    assert "vanished" not in pair.fetch(entries)
    assert [p.name for p in pair.here.iterdir()] == ["b"]


def test_what_is_left_of_a_cut_is_the_beginning_of_the_next(pair: Pair) -> None:
    content = os.urandom(3_000_000)
    (pair.there / "big").write_bytes(content)
    (pair.here / PARTIAL).mkdir()
    (pair.here / PARTIAL / "big").write_bytes(content[:2_000_000] + b"wrong" * 1000)
    (pair.here / ".big.AbCdEf").write_bytes(content[:2_500_000])
    assert pair.fetch(pair.listing().files) == ""
    assert (pair.here / "big").read_bytes() == content
    assert [p.name for p in pair.here.iterdir()] == ["big"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (127, "sh: 1: rsync: not found\nrsync: connection unexpectedly closed (0 bytes received so far)"),
        (12, "bash: line 1: rsync: command not found\nrsync error: error in rsync protocol data stream"),
        (1, "rsync: --info=progress2: unknown option\nrsync error: syntax or usage error (code 1)"),
        (1, "openrsync: unrecognized option `--from0'"),
    ],
)
def test_without_a_fit_rsync_it_is_tar(
    code: int, said: str, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_rsync(tmp_path, monkeypatch, code, said)
    (pair.there / "a").write_text("1")
    assert pair.fetch(pair.listing().files).startswith("rsync is missing, or too old, here or on near")
    assert pair.absent() == []


@pytest.mark.parametrize(
    ("code", "said", "kind", "words"),
    [
        (12, 'rsync: link_stat "/x/rsync" failed: No such file or directory (2)', UnreachableError, "broke"),
        (255, "Connection to near closed", UnreachableError, "the connection to near broke while files came"),
        (30, "rsync error: timeout in data send/receive", UnreachableError, "broke"),
        (
            11,
            'rsync: write failed on "/h/a": No space left on device (28)',
            CommandError,
            "no room for the files",
        ),
        (
            23,
            'rsync: mkstemp "/h/.a.x" failed: Disk quota exceeded (122)',
            CommandError,
            "no room for the files",
        ),
        (22, "rsync: out of memory", CommandError, "rsync ended with exit code 22: rsync: out of memory"),
    ],
)
def test_failures_in_words(
    code: int, said: str, kind: type[CommandError], words: str, pair: Pair, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    fake_rsync(tmp_path, monkeypatch, code, said)
    (pair.there / "a").write_text("1")
    with pytest.raises(CommandError) as failure:
        pair.fetch(pair.listing().files)
    assert type(failure.value) is kind and words in failure.value.message
    assert failure.value.hint is not None and "hpcrun sync goes on" in failure.value.hint


def test_what_could_not_be_read_is_told_of(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = 'rsync: send_files failed to open "/unknown option": Permission denied (13)'
    fake_rsync(tmp_path, monkeypatch, 23, f'file has vanished: "/x"\n{said}\nrsync error: x')
    (pair.there / "a").write_text("1")
    assert pair.fetch(pair.listing().files) == said
    assert not is_here(pair.runs / RUN, pair.listing().files[0])
