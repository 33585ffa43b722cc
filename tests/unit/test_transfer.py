"""What a target says it has, and what of that is believed, fetched and taken for brought."""

from __future__ import annotations

import io
import os
import posixpath
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.names import PARTIAL
from hpcrun.shells.scripts import source
from hpcrun.transfer.fetch import Counter
from hpcrun.transfer.manifest import Entry, Listing, Manifest, at, is_here, missing, parse_manifest, rescue
from hpcrun.transfer.tarred import unpack

RUN = "exp_20261101-120000_abcdefgh"
OTHER = "exp_20261101-120000_hgfedcba"
TOPS = ("code/outputs", "code/logs", "user_logs", "system_logs", "metrics")


def listing(*records: bytes, run: str = RUN) -> Manifest:
    return parse_manifest(b"\0".join([b"R" + run.encode(), *records, b""]))[run]


def of_file(path: str, size: int = 1, mtime: str = "1.5") -> bytes:
    return os.fsencode(f"f{size}\t{mtime}\t{RUN}/{path}")


def of_link(path: str, leads: str) -> bytes:
    return os.fsencode(f"l1\t1.5\t{RUN}/{path}\t{leads}")


# -- the listing ---------------------------------------------------------------


def test_files_links_and_what_may_not_be_read() -> None:
    found = listing(
        of_file("code/outputs/a b", 12, "1700000000.1234567890"),
        of_link("code/outputs/l", "a b"),
        os.fsencode(f"u7\t1.0\t{RUN}/metrics/m"),
    )
    assert found.files == [
        Entry("outputs/a b", "code/outputs/a b", 12, 1_700_000_000_123_456_789),
        Entry("outputs/l", "code/outputs/l", 0, None, "a b"),
    ]
    assert found.closed == [Entry("metrics/m", "metrics/m", 7, 1_000_000_000)]
    assert (found.odd, found.gone) == (0, False)


def test_runs_apart_and_those_that_are_gone() -> None:
    found = parse_manifest(b"RA\0f1\t1\tA/metrics/x\0GB\0RC\0")
    assert [e.name for e in found["A"].files] == ["metrics/x"]
    assert [(run, m.gone) for run, m in found.items()] == [("A", False), ("B", True), ("C", False)]


def test_a_run_has_no_files_in_the_folder_of_another() -> None:
    data = b"\0".join(
        [b"RA", b"f1\t1\tA/metrics/x", b"RB", b"f1\t1\tA/metrics/y", b"f1\t1\tB/metrics/z", b""]
    )
    assert {run: [e.path for e in m.files] for run, m in parse_manifest(data).items()} == {
        "A": ["metrics/x"],
        "B": ["metrics/z"],
    }


def test_where_find_cannot_print() -> None:
    found = listing(f"c4038471504\t75\t{RUN}/user_logs/a\tb".encode())
    assert found.files == [Entry("user_logs/a\tb", "user_logs/a\tb", 75, None)]


@pytest.mark.parametrize(
    "path", ["code/outputs/n\nl\tt\\", "code/logs/-rf", "metrics/...", "user_logs/..a", "metrics/.h"]
)
def test_odd_names_are_names(path: str) -> None:
    assert [e.path for e in listing(of_file(path)).files] == [path]


def test_names_that_are_not_utf_8() -> None:
    [entry] = listing(b"f1\t1\t" + RUN.encode() + b"/code/outputs/\xff\xfe").files
    assert os.fsencode(entry.path) == b"code/outputs/\xff\xfe"


@pytest.mark.parametrize(
    "record",
    [
        of_file("code/outputs/../../../x"),
        of_file("code/outputs/./x"),
        of_file("code/outputs//x"),
        of_file("code/outputs/d/.."),
        of_file("code/outputs/"),
        of_file("code/outputs"),
        of_file("run.json"),
        of_file("code/train.py"),
        of_file("code/outputsx/y"),
        of_file(f"code/outputs/{PARTIAL}/x"),
        of_file(f"code/outputs/{PARTIAL}"),
        of_file("code/outputs/x", -1),
        of_file("/etc/passwd"),
        b"f1\t1\t/etc/passwd",
        b"f1\t1\t" + OTHER.encode() + b"/code/outputs/x",
        b"f1\t1\t" + RUN.encode() + b"x/code/outputs/x",
        b"f1\tnow\t" + RUN.encode() + b"/code/outputs/x",
        b"fx\t1\t" + RUN.encode() + b"/code/outputs/x",
        b"f1\t1",
        b"f",
        b"x1\t1\t" + RUN.encode() + b"/code/outputs/x",
        b"",
        b"\t\t\t",
    ],
)  # fmt: skip
def test_what_is_odd_is_left_out(record: bytes) -> None:
    found = listing(record, of_file("metrics/good"))
    assert [e.name for e in found.files] == ["metrics/good"] and not found.closed


@pytest.mark.parametrize(
    "leads",
    [
        *("/etc/passwd", "../../run.json", "../../../x/code/outputs/y", "..", ".", "", "../logs/x", "../.."),
        *("d/../../../x", "d/../x", "./../x", "../outputs/../../run.json", "d/..", "../outputs"),
    ],
)
def test_a_link_that_leads_out_or_up_again_is_left_out_and_counted(leads: str) -> None:
    found = listing(of_link("code/outputs/l", leads), of_file("metrics/good"))
    assert ([e.name for e in found.files], found.odd) == (["metrics/good"], 1)


@pytest.mark.parametrize(
    ("path", "leads"),
    [
        ("code/outputs/l", "x"),
        ("code/outputs/l", "d/x"),
        ("code/outputs/d/e/l", "../../x"),
        ("metrics/d/l", "../x"),
    ],
)
def test_a_link_that_stays_is_kept(path: str, leads: str) -> None:
    assert [e.link for e in listing(of_link(path, leads)).files] == [leads]


def test_files_behind_links_are_left_out() -> None:
    found = listing(of_link("code/outputs/l", "d"), of_file("code/outputs/l/x"), of_file("code/outputs/lx/y"))
    assert [e.path for e in found.files] == ["code/outputs/l", "code/outputs/lx/y"]


def test_a_listing_may_come_in_pieces() -> None:
    whole = (
        b"R"
        + RUN.encode()
        + b"\0"
        + of_file("metrics/x")
        + b"\0"
        + of_link("metrics/l", "x")
        + b"\0G"
        + b"B\0"
    )
    for size in (1, 3, 50):
        reader = Listing()
        for start in range(0, len(whole), size):
            reader.feed(whole[start : start + size])
        assert reader.end() == parse_manifest(whole)


def test_huge_numbers_and_a_listing_that_ends_in_the_middle() -> None:
    [entry] = listing(of_file("metrics/x", 10**30, f"{10**30}.5")).files
    assert entry.size == 10**30
    whole = b"R" + RUN.encode() + b"\0" + of_file("metrics/x") + b"\0" + of_link("metrics/l", "x") + b"\0"
    for cut in range(len(whole)):
        for manifest in parse_manifest(whole[:cut]).values():
            check(manifest, RUN)


def check(manifest: Manifest, run: str) -> None:
    """Nothing that was accepted leads outside of the run's top folders."""
    links = {e.path for e in manifest.files if e.link is not None}
    for entry in [*manifest.files, *manifest.closed]:
        top = next(top for top in TOPS if entry.path.startswith(f"{top}/"))
        assert posixpath.normpath(entry.path) == entry.path and "\0" not in entry.path
        assert not any(entry.path.startswith(f"{link}/") for link in links)
        if entry.link is not None:
            leads = posixpath.normpath(posixpath.join(posixpath.dirname(entry.path), entry.link))
            assert leads.startswith(f"{top}/")


PIECES = st.sampled_from(
    [b"/", b"..", b".", b"a", b"\t", b"\n", b"\0", b"\xff", b"code", b"outputs", b"metrics", b"f1\t1\t",
     b"l1\t1\t", b"u1\t1\t", b"c1\t1\t", b"R", b"G", RUN.encode(), OTHER.encode(),
     RUN.encode() + b"/code/outputs/", RUN.encode() + b"/metrics/", PARTIAL.encode()]
)  # fmt: skip


@given(st.lists(PIECES, max_size=40))
def test_whatever_is_said_nothing_leads_outside(pieces: list[bytes]) -> None:
    for run, manifest in parse_manifest(b"R" + RUN.encode() + b"\0" + b"".join(pieces)).items():
        check(manifest, run)


# -- the scripts ---------------------------------------------------------------

SHELLS = [["dash"], ["busybox", "sh"], ["bash", "--posix"]]


def program(name: str) -> str:
    """Its path; the test is skipped where there is none."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"there is no {name} on this machine")
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The root of a site with one run that has a bit of everything."""
    root = tmp_path / "it's a $(root)"
    run = root / "runs" / RUN
    for top in TOPS:
        (run / top).mkdir(parents=True)
    outputs = run / "code/outputs"
    (outputs / "a b").write_text("12")
    (outputs / "-n").write_text("")
    (outputs / "n\nl").write_text("x")
    (outputs / "d").mkdir()
    (outputs / "d/l").symlink_to("../a b")
    os.mkfifo(outputs / "pipe")
    (run / "metrics/m").write_text("123")
    (run / "code/train.py").write_text("")
    os.link(run / "metrics/m", run / "user_logs/m")
    os.utime(outputs / "a b", ns=(1, 1_700_000_000_123_456_789))
    (root / "runs/linked").symlink_to(RUN)
    return root


def ask(shell: list[str], root: Path, name: str, said: bytes, path: str | None = None) -> bytes:
    env = {**os.environ, **({} if path is None else {"PATH": path})}
    argv = [program(shell[0]), *shell[1:], "-c", at(str(root / "runs")) + source(name)]
    return subprocess.run(argv, input=said, capture_output=True, check=True, env=env, timeout=30).stdout


def tools(folder: Path, *names: str) -> str:
    """A PATH that has busybox's programs of these names alone; of cksum it may have none. A shell of
    busybox's may have programs of its own beside those of PATH."""
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(program("cksum" if name == "cksum" else "busybox"))
    return str(folder)


ODD = ["code/outputs/n\nl"]
PLAIN = ["code/outputs/-n", "code/outputs/a b", "metrics/m", "user_logs/m"]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_a_listing(shell: list[str], tree: Path, tmp_path: Path) -> None:
    own = shell[0] == "busybox"
    path = tools(tmp_path / "bin", "find", "tr", "sed", "stat") if own else None
    found = parse_manifest(ask(shell, tree, "manifest", f"{RUN}\ngone\nlinked\n".encode(), path))
    assert (found["gone"].gone, found["linked"].gone, found[RUN].gone) == (True, True, False)
    entries = {e.path: e for e in found[RUN].files}
    if own:  # its find cannot print
        assert sorted(entries) == PLAIN
    else:
        assert sorted(entries) == sorted([*PLAIN, *ODD, "code/outputs/d/l"])
        assert entries["code/outputs/a b"].mtime == 1_700_000_000_123_456_789
    assert entries["code/outputs/a b"].size == 2
    assert all(is_here(tree / "runs" / RUN, e) for e in entries.values())


@pytest.mark.parametrize("shell", SHELLS[:2], ids=lambda shell: shell[0])
@pytest.mark.parametrize("stat", [True, False], ids=["stat", "cksum"])
def test_a_listing_by_a_find_that_cannot_print(
    shell: list[str], stat: bool, tree: Path, tmp_path: Path
) -> None:
    path = tools(tmp_path / "bin", "find", "tr", "sed", "cksum", *(["stat"] if stat else []))
    if not stat:  # busybox's shell may have one of its own
        argv = [program(shell[0]), *shell[1:], "-c", "stat -c %s /"]
        stat = subprocess.run(argv, env={"PATH": path}, capture_output=True, timeout=30).returncode == 0
    found = parse_manifest(ask(shell, tree, "manifest", f"{RUN}\n".encode(), path))
    assert sorted(e.path for e in found[RUN].files) == PLAIN
    [entry] = [e for e in found[RUN].files if e.path == "code/outputs/a b"]
    assert (entry.size, entry.mtime) == (2, 1_700_000_000_000_000_000 if stat else None)
    assert is_here(tree / "runs" / RUN, entry)


def test_without_any_of_these_nothing_is_said_at_all(tree: Path, tmp_path: Path) -> None:
    """An empty listing would be taken for a run without files."""
    with pytest.raises(subprocess.CalledProcessError):
        path = tools(tmp_path / "bin", "find", "tr", "sed")
        ask(["dash"], tree, "manifest", f"{RUN}\n".encode(), path)


def test_links_in_the_place_of_folders_are_not_entered(tree: Path, tmp_path: Path) -> None:
    run = tree / "runs" / RUN
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs/secret").write_text("x")
    (run / "metrics/m").unlink()
    (run / "metrics").rmdir()
    (run / "metrics").symlink_to(tmp_path)
    (run / "code").rename(run / "code2")
    (run / "code").symlink_to(tmp_path)
    found = parse_manifest(ask(["dash"], tree, "manifest", f"{RUN}\n".encode()))[RUN]
    assert [e.path for e in found.files] == ["user_logs/m"] and found.odd >= 2


@pytest.mark.parametrize("name", ["manifest", "tarred"])
def test_shellcheck(name: str) -> None:
    shellcheck = str(Path(sys.executable).with_name("shellcheck"))
    argv = [shellcheck, "--shell=sh", "--exclude=SC2154", "-"]  # root is set before
    done = subprocess.run(argv, input=source(name), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("shell", SHELLS[:2], ids=lambda shell: shell[0])
@pytest.mark.parametrize("busybox", [False, True], ids=["GNU tar", "busybox tar"])
def test_a_tar(shell: list[str], busybox: bool, tree: Path, tmp_path: Path) -> None:
    path = tools(tmp_path / "bin", "tar", "xargs") if busybox else None
    found = parse_manifest(ask(["dash"], tree, "manifest", f"{RUN}\n".encode()))[RUN].files
    found = [e for e in found if not (busybox and "\n" in e.path)]
    names = b"".join(os.fsencode(f"{RUN}/{e.path}") + b"\0" for e in found)
    data = ask(shell, tree, "tarred", names, path)
    unpack(io.BytesIO(data), tmp_path / "home", {f"{RUN}/{e.path}": e for e in found})
    assert [e.path for e in found if not is_here(tmp_path / "home" / RUN, e)] == []


# -- what is here --------------------------------------------------------------


def entry_of(path: str, size: int = 1, mtime: int | None = 1_500_000_000, link: str | None = None) -> Entry:
    return Entry(path.removeprefix("code/"), path, size, mtime, link)


def put(folder: Path, path: str, text: str = "x", mtime: int = 1_500_000_000) -> Path:
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    os.utime(place, ns=(mtime, mtime))
    return place


def test_by_size_and_time(tmp_path: Path) -> None:
    put(tmp_path, "metrics/a")
    assert is_here(tmp_path, entry_of("metrics/a"))
    assert not is_here(tmp_path, entry_of("metrics/a", size=2))
    assert not is_here(tmp_path, entry_of("metrics/a", mtime=1_700_000_000)), "of the same second"
    assert is_here(tmp_path, entry_of("metrics/a", mtime=1_500_000_999)), "as some file systems round"
    assert is_here(tmp_path, entry_of("metrics/a", mtime=1_000_000_000)), "they know whole seconds"
    assert is_here(tmp_path, entry_of("metrics/a", mtime=None))
    assert not is_here(tmp_path, entry_of("metrics/b"))
    assert not is_here(tmp_path, entry_of("metrics/a/b"))


def test_by_kind(tmp_path: Path) -> None:
    put(tmp_path, "metrics/a")
    (tmp_path / "metrics/l").symlink_to("a")
    assert not is_here(tmp_path, entry_of("metrics/l")), "a link is no file"
    assert is_here(tmp_path, entry_of("metrics/l", link="a"))
    assert not is_here(tmp_path, entry_of("metrics/l", link="b"))
    assert not is_here(tmp_path, entry_of("metrics/a", link="a"))


def test_the_way_is_cleared_of_links_files_and_folders(tmp_path: Path) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    put(outside, "f")
    put(run, "metrics/was_file")
    put(run, "metrics/was_folder/deep/x")
    (run / "code").mkdir()
    (run / "code/outputs").symlink_to(outside)
    (run / "metrics/link").symlink_to(outside / "f")
    os.mkfifo(run / "metrics/pipe")
    (run / "metrics/kept").symlink_to("was_file")
    names = ("code/outputs/f", "metrics/was_file/x", "metrics/was_folder", "metrics/link", "metrics/pipe")
    wanted = [*map(entry_of, names), entry_of("metrics/kept", link="else")]
    assert missing(run, wanted) == wanted
    assert not (run / "code/outputs").is_symlink() and (outside / "f").read_text() == "x"
    left = {p.name for p in (run / "metrics").iterdir()}
    assert left == {"kept"}


def test_what_a_killed_rsync_left_is_found_again(tmp_path: Path) -> None:
    put(tmp_path, "metrics/.big.AbC123", "half")
    put(tmp_path, "metrics/.x.bin.aaaaaa", "more")
    put(tmp_path, f"metrics/{PARTIAL}/x.bin", "less than")
    put(tmp_path, "metrics/.mine.abcdef", "a file of the run")
    put(tmp_path, "metrics/.other.abcdef", "of a file that nobody wants")
    wanted = [entry_of(f"metrics/{name}") for name in ("big", "x.bin", ".mine.abcdef", "mine")]
    rescue(tmp_path, wanted)
    assert (tmp_path / f"metrics/{PARTIAL}/big").read_text() == "half"
    assert (tmp_path / f"metrics/{PARTIAL}/x.bin").read_text() == "less than"
    names = {p.name for p in (tmp_path / "metrics").iterdir()}
    assert names == {PARTIAL, ".mine.abcdef", ".other.abcdef"}


# -- tars that lie -------------------------------------------------------------


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return io.BytesIO(out.getvalue())


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o4777) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime = kind, link, mode, 1
    return info


def test_only_what_was_asked_for_is_written(tmp_path: Path) -> None:
    runs, known = tmp_path / "runs", {f"{RUN}/metrics/a": entry_of("metrics/a")}
    put(tmp_path, "outside")
    unpack(
        tar(
            (member("../outside"), b"evil"),
            (member(str(tmp_path / "outside")), b"evil"),
            (member(f"{RUN}/run.json"), b"evil"),
            (member(f"{OTHER}/metrics/a"), b"evil"),
            (member(f"{RUN}/metrics/a"), b"good"),
        ),
        runs,
        known,
    )
    assert [p for p in runs.rglob("*") if p.is_file()] == [runs / RUN / "metrics/a"]
    assert (runs / RUN / "metrics/a").read_bytes() == b"good"
    assert (runs / RUN / "metrics/a").stat().st_mode & 0o7777 == 0o700
    assert (tmp_path / "outside").read_text() == "x"


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE]
)
def test_what_was_a_file_and_comes_as_something_else_does_not_come(kind: bytes, tmp_path: Path) -> None:
    put(tmp_path, "outside")
    known = {f"{RUN}/metrics/{name}": entry_of(f"metrics/{name}") for name in "ab"}
    link = str(tmp_path / "outside")
    unpack(
        tar((member(f"{RUN}/metrics/a", kind, link), b""), (member(f"{RUN}/metrics/b"), b"b")),
        tmp_path,
        known,
    )
    assert [p.name for p in (tmp_path / RUN / "metrics").iterdir()] == ["b"]


def test_a_link_comes_only_as_it_was_listed(tmp_path: Path) -> None:
    known = {f"{RUN}/metrics/{n}": entry_of(f"metrics/{n}", link="x") for n in "ab"}
    unpack(
        tar(
            (member(f"{RUN}/metrics/a", tarfile.SYMTYPE, "x"), b""),
            (member(f"{RUN}/metrics/b", tarfile.SYMTYPE, "/etc/passwd"), b""),
        ),
        tmp_path,
        known,
    )
    assert [(p.name, p.readlink()) for p in (tmp_path / RUN / "metrics").iterdir()] == [("a", Path("x"))]


def test_a_tar_that_is_cut_off_leaves_nothing_half_under_its_name(tmp_path: Path) -> None:
    data = tar(
        (member(f"{RUN}/metrics/a"), b"a" * 3000), (member(f"{RUN}/metrics/b"), b"b" * 90_000)
    ).getvalue()
    known = {f"{RUN}/metrics/{name}": entry_of(f"metrics/{name}") for name in "ab"}
    for cut in (0, 100, 700, 2_000, 5_000, 50_000):
        runs = tmp_path / str(cut)
        try:
            unpack(io.BytesIO(data[:cut]), runs, known)
        except tarfile.TarError:
            pass
        whole = {p.name for p in (runs / RUN / "metrics").glob("?") if p.is_file()}
        assert whole == ({"a"} if cut > 4_000 else set())


# -- progress ------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_bytes_are_counted_however_the_lines_are_cut(size: int) -> None:
    sums = (0, 32_768, 90_000, 100_000)
    said = b"".join(b"\r%15d %3d%%   10.00MB/s    0:00:01" % (sum_, sum_ // 1000) for sum_ in sums)
    said += b" (xfr#1, to-chk=0/1)\n"
    found: list[int] = []
    counter = Counter(found.append)
    for at_ in range(0, len(said), size):
        counter.feed(said[at_ : at_ + size])
    assert sum(found) == 100_000 and all(count > 0 for count in found)
