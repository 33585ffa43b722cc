"""What the script that follows a run sends, taken apart; and what is kept of it here."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.engine.frames import (
    PIECE,
    Anew,
    Beat,
    BrokenStream,
    End,
    Frame,
    Frames,
    Piece,
    Status,
    key_of,
    log_name,
)
from hpcrun.engine.mirror import Gap, Mirror
from hpcrun.history.paths import RunPaths

MARK = "0123456789abcdef" * 4

keys = st.sampled_from(["log", "job", "0", "007", "1234"])
numbers = st.integers(0, 10**12)
statuses = st.builds(Status, st.text().filter(lambda text: MARK not in text and text.isprintable()))
pieces = st.builds(
    Piece, keys, numbers, st.binary(max_size=300).filter(lambda data: MARK.encode() not in data)
)
frames = st.one_of(
    statuses,
    pieces,
    st.builds(Anew, keys),
    st.just(Beat()),
    st.builds(End, st.dictionaries(keys, numbers)),
)


def sent(frame: Frame) -> bytes:
    """As the script writes it."""
    if isinstance(frame, Status):
        text = f"S;{frame.text}".encode()
    elif isinstance(frame, Piece):
        text = b"F %s %d %d;%s" % (frame.key.encode(), frame.at, len(frame.data), frame.data)
    elif isinstance(frame, Anew):
        text = f"N {frame.key};".encode()
    elif isinstance(frame, Beat):
        text = b"B;"
    else:
        text = "".join(["E", *(f" {key}={size}" for key, size in frame.sizes.items()), ";"]).encode()
    return text + MARK.encode()


@given(st.lists(frames), st.lists(st.integers(1, 200)))
def test_frames_come_through_however_the_stream_is_cut(said: list[Frame], cuts: list[int]) -> None:
    data = b"".join(map(sent, said))
    taker, found, at = Frames(MARK), list[Frame](), 0
    for cut in [*cuts, len(data)]:
        found += taker.feed(data[at : at + cut])
        at += cut
    assert found == said


@given(st.binary(max_size=200))
def test_whatever_comes_is_a_frame_or_refused(noise: bytes) -> None:
    taker = Frames(MARK)
    try:
        found = taker.feed(noise + MARK.encode())
    except BrokenStream:
        return
    for frame in found:
        if isinstance(frame, (Piece, Anew)):
            log_name(frame.key)


@pytest.mark.parametrize(
    "noise",
    [
        *(b"", b";", b"X;", b"S", b"F log 0;", b"F log 0 3;four", b"F log -1 3;abc", b"F log 0 1 1;a"),
        *(b"F ../x 0 1;a", b"F std_log.txt 0 1;a", b"F 1234567890 0 1;a", b"F log\n 0 1;a", b"F LOG 0 1;a"),
        *(
            b"F \xd9\xa1 0 1;a",
            b"N ../../x;",
            b"N log;x",
            b"N ;",
            b"B;x",
            b"E log;",
            b"E log=-1;",
            b"E log=1;x",
        ),
        *(b"E ../x=1;", b"F log 1111111111111111111 1;a"),
    ],
)
def test_what_is_no_frame_ends_the_stream(noise: bytes) -> None:
    """Of a key a file's name is made: nothing gets out of the run's folder."""
    with pytest.raises(BrokenStream):
        Frames(MARK).feed(noise + MARK.encode())


def test_a_frame_without_an_end_is_not_waited_for_for_ever() -> None:
    taker = Frames(MARK)
    with pytest.raises(BrokenStream):
        for _ in range(20):
            taker.feed(b"x" * (PIECE // 8))


def test_a_piece_may_be_shorter_than_it_was_to_be() -> None:
    assert Frames(MARK).feed(b"F log 5 100;abc" + MARK.encode()) == [Piece("log", 5, b"abc")]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("std_log.txt", "log"),
        ("std_log_process_000.txt", "000"),
        ("std_log_process_1234.txt", "1234"),
        ("std_log_process_.txt", None),
        ("std_log_process_1.txt\n", None),
        ("std_log_process_\u0661.txt", None),
        ("job.txt", None),
        ("../std_log.txt", None),
    ],
)
def test_names_have_keys(name: str, key: str | None) -> None:
    assert key_of(name) == key
    if key is not None:
        assert log_name(key) == f"user_logs/{name}"


# -- what is kept ---------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> RunPaths:
    home = RunPaths(tmp_path / "run")
    home.user_logs.mkdir(parents=True)
    home.system_logs.mkdir()
    return home


@given(data=st.data(), content=st.binary(max_size=60))
def test_pieces_in_any_order_make_the_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, content: bytes
) -> None:
    """Two who follow one run write the same pieces, each in its own time."""
    home = RunPaths(tmp_path_factory.mktemp("run"))
    home.user_logs.mkdir()
    one, other = Mirror(home), Mirror(home)
    for mirror in (one, other):
        at = mirror.known().get("log", 0)
        while at < len(content):
            size = data.draw(st.integers(1, len(content) - at))
            mirror.take(Piece("log", at, content[at : at + size]))
            at += size
    path = home.user_logs / "std_log.txt"
    assert (path.read_bytes() if content else b"") == content
    assert one.known() == ({"log": len(content)} if content else {})


def test_a_piece_behind_a_gap_is_refused(home: RunPaths) -> None:
    mirror = Mirror(home)
    mirror.take(Piece("000", 0, b"abc"))
    with pytest.raises(Gap):
        mirror.take(Piece("000", 4, b"e"))
    assert mirror.known() == {"000": 3}
    with pytest.raises(Gap):
        mirror.take(End({"000": 4}))
    mirror.take(End({"000": 3}))


def test_a_log_made_anew_is_the_same_file_and_empty(home: RunPaths) -> None:
    mirror, path = Mirror(home), home.user_logs / "std_log.txt"
    mirror.take(Piece("log", 0, b"before"))
    inode = path.stat().st_ino
    mirror.take(Anew("log"))
    assert path.read_bytes() == b"" and path.stat().st_ino == inode
    mirror.take(Piece("log", 0, b"new"))
    assert path.read_bytes() == b"new"


def test_what_is_there_of_the_system_log_may_be_its_end_alone(home: RunPaths) -> None:
    path = home.system_logs / "job.txt"
    path.write_bytes(b"the end")
    mirror = Mirror(home)
    assert mirror.known() == {}
    mirror.take(Piece("job", 0, b"it"))
    mirror.take(Piece("job", 2, b" begins"))
    assert path.read_bytes() == b"it begins" and mirror.known() == {"job": 9}


def test_links_are_not_followed_out(home: RunPaths, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (home.user_logs / "std_log.txt").symlink_to(outside)
    with pytest.raises(OSError):
        Mirror(home).take(Piece("log", 0, b"theirs"))
    assert outside.read_text() == "mine"


def test_modes_are_private(home: RunPaths) -> None:
    mirror = Mirror(home)
    mirror.take(Piece("log", 0, b"x"))
    mirror.take(Status("{}"))
    assert home.status.read_text() == "{}\n"
    for path in (home.user_logs / "std_log.txt", home.status):
        assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in home.folder.iterdir()) == ["status.json", "system_logs", "user_logs"]
