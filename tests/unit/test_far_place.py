"""Run folders on another machine: made complete, whatever was there before, broke off or was lost."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hpcrun.errors import CommandError, ConfigError, UnreachableError
from hpcrun.places import sending
from hpcrun.places.far import root_text
from hpcrun.places.sending import squeeze
from hpcrun.shells.base import Result
from hpcrun.snapshot_git import STORE_ATTRIBUTES, STORE_CONFIG
from tests.far_help import SCRIPT, Far, modes, present
from tests.snapshot_help import contents

LOST = Result(("sh",), None, "", "", 1.0, "the connection to far broke")


@pytest.fixture(params=present())
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Far:
    return Far(tmp_path, request.param)


@pytest.fixture
def far_one(tmp_path: Path) -> Far:
    return Far(tmp_path)


@pytest.fixture(params=["git", "rsync"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Far:
    """A site with git, and one without."""
    made = Far(tmp_path)
    if request.param == "rsync":
        made.shell.hide("git")
    return made


def hows(site: Far) -> list[str]:
    """By which ways it was tried to fill a run's folder."""
    return ["ask" if len(words) == 2 else words[3] for words in site.shell.asked if len(words) in (2, 11)]


def odd_files(folder: Path) -> None:
    """All that a source can hold that is apt to get lost."""
    names = [
        b"two\nlines",
        b"-n",
        b"--",
        b" ",
        b"'\"$(id)`",
        b"\xff\xfe",
        "päth — 雪".encode(),
        b"a\tb",
        b"%s",
        b"*",
    ]
    for number, name in enumerate(names):
        (folder / os.fsdecode(name)).write_bytes(b"%d\r\n\0\xff" % number)
    (folder / "empty").write_bytes(b"")
    (folder / "program").write_text("#!/bin/sh\r\necho hi\r\n")
    (folder / "program").chmod(0o755)
    deep = folder / "-deep" / "sub dir"
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    (folder / "link").symlink_to("-deep/sub dir/file")
    (folder / "dangling").symlink_to("/nowhere/at all")
    (folder / "up").symlink_to("../../..")
    (folder / ".gitattributes").write_text("* text=auto eol=lf ident\n*.zip filter=lfs\n")


def test_a_first_run_and_a_second(site: Far) -> None:
    odd_files(site.source)
    first = site.fill()
    assert contents(first / "code") == contents(site.source)
    assert (first / "job.sh").read_text() == SCRIPT
    assert {path.name for path in first.iterdir()} == {
        "code",
        "job.sh",
        "metrics",
        "system_logs",
        "user_logs",
    }
    second = site.fill()
    assert contents(second / "code") == contents(site.source)
    assert hows(site) == ["ask", "pack", "store"]
    kept = {path for path in modes(site.root).items() if path[1] & 0o077}
    assert kept == set()


def test_a_site_without_git(site: Far) -> None:
    if shutil.which("rsync") is None or not (site.shell.tools / "rsync").exists():
        (site.shell.tools / "rsync").symlink_to(shutil.which("rsync") or "/usr/bin/rsync")
    site.shell.hide("git")
    odd_files(site.source)
    runs = [site.fill() for _ in range(3)]
    for run in runs:
        assert contents(run / "code") == contents(site.source)
    assert len([path for path in (site.root / "trees").iterdir() if path.is_dir()]) == 1
    (runs[0] / "code/a.py").write_text("changed by the payload")
    assert contents(site.fill() / "code") == contents(site.source)
    assert {path for path in modes(site.root).items() if path[1] & 0o077} == set()


def test_neither_git_nor_rsync(far_one: Far) -> None:
    far_one.shell.hide("git")
    far_one.shell.hide("rsync")
    with pytest.raises(CommandError, match="neither git nor rsync on far"):
        far_one.fill()
    assert not list((far_one.root / "runs").glob("*/job.sh"))


def test_a_source_without_files(either: Far) -> None:
    (either.source / "a.py").unlink()
    run = either.fill()
    assert contents(run / "code") == {}
    assert (run / "code/outputs").is_dir()


def test_a_change_in_ten_thousand_files_is_a_small_thing(far_one: Far) -> None:
    for number in range(10_000):
        (far_one.source / f"file-{number:05d}").write_bytes(os.urandom(20))
    far_one.fill()
    (far_one.source / "file-00077").write_text("changed")
    before = far_one.shell.sent
    run = far_one.fill()
    assert (run / "code/file-00077").read_text() == "changed"
    assert far_one.shell.sent - before < 2000


def test_without_git_only_changes_travel(far_one: Far) -> None:
    """What is unchanged is taken from the snapshot before, there."""
    far_one.shell.hide("git")
    (far_one.source / "big").write_bytes(os.urandom(300_000))
    far_one.fill()
    (far_one.source / "a.py").write_text("print(2)\n")
    log = far_one.shell.home / "rsync.log"
    rsync = far_one.shell.tools / "rsync"
    real = rsync.readlink()
    rsync.unlink()
    noted = f"--log-file='{log}' --log-file-format='%f %b'"
    rsync.write_text(f'#!/bin/sh\nshift\nexec {real} --server {noted} "$@"\n')
    rsync.chmod(0o755)
    run = far_one.fill()
    assert contents(run / "code") == contents(far_one.source)
    assert " a.py " in log.read_text() and " big " not in log.read_text()


@pytest.mark.parametrize("number", [2, 3, 4])
def test_a_lost_connection_is_made_anew(far_one: Far, number: int) -> None:
    record = far_one.record()

    def lose(asked: int) -> Result | None:
        return LOST if asked == number else None

    far_one.shell.before = lose
    run = far_one.fill(record)
    assert contents(run / "code") == contents(far_one.source)


def test_a_connection_that_is_lost_again_and_again(far_one: Far) -> None:
    """The run is kept, and whoever fills its folder next goes on."""
    record = far_one.record()
    far_one.shell.before = lambda number: LOST
    with pytest.raises(UnreachableError, match="the connection to far broke") as caught:
        far_one.fill(record)
    assert "Nothing has been submitted yet" in str(caught.value.hint)
    assert f"hpcrun cancel {record.id}" in str(caught.value.hint)
    far_one.shell.before = lambda number: None
    assert contents(far_one.fill(record) / "code") == contents(far_one.source)


def test_half_of_a_working_copy_is_never_used(either: Far) -> None:
    """What another left that was cut off lies under a name that nobody uses, and goes."""
    record = either.record()
    half = Path(record.run_dir) / ".code.0123456789ab"
    half.mkdir(parents=True)
    (half / "a.py").write_text("half")
    run = either.fill(record)
    assert contents(run / "code") == contents(either.source)
    assert not half.exists()


@pytest.mark.parametrize("tools", [["xz"], ["gzip"], ["cat"]])
def test_half_a_pack_is_never_used(far_one: Far, tmp_path: Path, tools: list[str]) -> None:
    """Of what was cut off at any byte no snapshot is said to be there."""
    (far_one.source / "big").write_bytes(os.urandom(20_000))
    record = far_one.record()
    assert record.snapshot is not None
    tree = record.snapshot["id"]
    pack = far_one.store.pack(tree, [], tmp_path)
    sent = squeeze(pack, tools)[0].read_bytes()
    for size in (0, 5, 13, len(sent) // 2, len(sent) - 100):
        one = sending.Sending(far_one.place, far_one.workspace.history, record, None)
        words = [*one._before, "pack", tools[0], *one._token, *one._run, STORE_CONFIG, STORE_ATTRIBUTES]
        result = far_one.place.ask_to_fill(words, sent[:size])
        assert result.rc == 95, (size, result)
        assert not (far_one.root / "snapshots.git/have" / tree).exists()
        assert not (Path(record.run_dir) / "code").exists()
    assert contents(far_one.fill(record) / "code") == contents(far_one.source)


def lose_a_pack(store: Path) -> None:
    for pack in (store / "objects/pack").iterdir():
        pack.unlink()


def lose_the_marks(store: Path) -> None:
    shutil.rmtree(store / "have")


def lose_the_head(store: Path) -> None:
    (store / "HEAD").unlink()
    (store / "info/attributes").unlink()


def lose_it_all(store: Path) -> None:
    shutil.rmtree(store)


@pytest.mark.parametrize("lose", [lose_a_pack, lose_the_marks, lose_the_head, lose_it_all])
@pytest.mark.parametrize("changed", [False, True])
def test_what_a_scratch_disk_has_purged_is_sent_again(
    far_one: Far, lose: Callable[[Path], None], changed: bool
) -> None:
    """Old files go there without a word: the store counts on nothing that it does not find."""
    (far_one.source / "big").write_bytes(os.urandom(20_000))
    far_one.fill()
    lose(far_one.root / "snapshots.git")
    if changed:
        with (far_one.source / "big").open("ab") as file:
            file.write(b"more")
    assert contents(far_one.fill() / "code") == contents(far_one.source)
    assert contents(far_one.fill() / "code") == contents(far_one.source)


def test_one_blob_that_is_lost_is_sent_again(far_one: Far) -> None:
    """The tree is there, and a file of it is not."""
    (far_one.source / "one").write_bytes(os.urandom(3000))
    far_one.fill()
    (far_one.source / "two").write_bytes(os.urandom(3000))
    first, *_ = (far_one.root / "snapshots.git/objects/pack").glob("*.pack")
    far_one.fill()
    first.unlink()
    first.with_suffix(".idx").unlink()
    assert contents(far_one.fill() / "code") == contents(far_one.source)
    assert hows(far_one)[-2:] == ["store", "pack"]


def test_a_tree_that_has_changed_is_sent_again(far_one: Far) -> None:
    """Without git, too: what a purge or a person has taken out of it is missed."""
    far_one.shell.hide("git")
    (far_one.source / "b.py").write_text("b")
    (far_one.source / "program").write_text("b")
    (far_one.source / "program").chmod(0o755)
    (far_one.source / "link").symlink_to("b.py")
    far_one.fill()
    [tree] = [path for path in (far_one.root / "trees").iterdir() if path.is_dir()]

    def take(name: str) -> None:
        (tree / name).unlink()

    def relink(name: str) -> None:
        (tree / name).unlink()
        (tree / name).symlink_to("c.py")

    spoil: list[Callable[[], object]] = [
        lambda: take("b.py"),
        lambda: (tree / "b.py").write_text("c"),
        lambda: (tree / "program").chmod(0o600),
        lambda: relink("link"),
        lambda: (tree / "more").write_text("c"),
        lambda: tree.with_name(f"{tree.name}.sum").unlink(),
    ]
    for change in spoil:
        change()
        assert contents(far_one.fill() / "code") == contents(far_one.source)


def test_what_comes_late_undoes_nothing(far_one: Far) -> None:
    """A client is killed while its words are still on their way; the run has been submitted by another, has
    ended, and its secrets are gone: they must not come back."""
    os.environ["HIDDEN"] = "value"
    record = far_one.record(secrets={"TOKEN": "env:HIDDEN"})
    run = far_one.fill(record)
    assert (run / "secrets.sh").stat().st_mode & 0o777 == 0o600
    (run / "sbatch.0").mkdir()
    (run / "secrets.sh").unlink()
    (run / "job.sh").write_text("as it was")
    far_one.fill(record)
    assert not (run / "secrets.sh").exists()
    assert (run / "job.sh").read_text() == "as it was"


def test_secrets_that_are_there_need_not_be_known_here(far_one: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another terminal, where the variable is not set, may finish what was begun."""
    monkeypatch.setenv("HIDDEN", "value")
    record = far_one.record(secrets={"TOKEN": "env:HIDDEN"})
    fresh = far_one.record(secrets={"TOKEN": "env:HIDDEN"})
    far_one.fill(record)
    monkeypatch.delenv("HIDDEN")
    assert "value" in (far_one.fill(record) / "secrets.sh").read_text()
    with pytest.raises(ConfigError, match="HIDDEN is not set here"):
        far_one.fill(fresh)
    assert not (Path(fresh.run_dir) / "job.sh").exists()


def test_many_fill_at_once(either: Far) -> None:
    """The store, or the tree, comes to be by several processes at a time."""
    records = [either.record() for _ in range(6)]
    failures: list[BaseException] = []

    def go(record: object) -> None:
        try:
            place = either.new_place()
            place.fill(either.workspace.history, record, None)  # type: ignore[arg-type]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=go, args=(record,)) for record in records]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    for record in records:
        assert contents(Path(record.run_dir) / "code") == contents(either.source)


def test_two_fill_one_folder(either: Far) -> None:
    """One of them for a client that is no more. Neither gets into what the other makes."""
    for _ in range(5):
        record = either.record()
        history = either.workspace.history
        both = [sending.Sending(either.place, history, record, None) for _ in range(2)]
        threads = [threading.Thread(target=one.run) for one in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert contents(Path(record.run_dir) / "code") == contents(either.source)


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ("$HOME/a", "{home}/a"),
        ("~/a", "{home}/a"),
        ("~", "{home}"),
        ("/tmp/$USER/$(id)`id`", "/tmp/alice/$(id)`id`"),
        ('$SCRATCH/it\'s "x" %s \\ {}*/雪', '/scratch/al ice/it\'s "x" %s \\ {}*/雪'),
        ("$HOME${USER}x", "{home}alicex"),
    ],
)
def test_the_root_is_expanded_there(site: Far, root: str, expected: str) -> None:
    site.shell.env["SCRATCH"] = "/scratch/al ice"
    text = root_text(root) + 'printf %s "$root"'
    result = site.shell.script(text, [], timeout=20)
    assert result.check().stdout == expected.replace("{home}", str(site.shell.home))


def test_a_variable_that_is_not_set(tmp_path: Path) -> None:
    site = Far(tmp_path, root="$SCRATCH/x")
    with pytest.raises(ConfigError, match="SCRATCH is not set") as caught:
        site.place.root()
    assert "login_shell" in str(caught.value)
    assert not site.shell.home.joinpath("x").exists()
    site.shell.env["SCRATCH"] = str(tmp_path)
    record = site.record()
    del site.shell.env["SCRATCH"]
    with pytest.raises(ConfigError, match="SCRATCH is not set"):
        site.fill(record)


def test_a_root_that_has_moved(tmp_path: Path) -> None:
    """Nothing is written into the old one, and the next try knows the new one; old runs stay to be found."""
    site = Far(tmp_path, root="$SCRATCH/x")
    site.shell.env["SCRATCH"] = str(tmp_path / "old")
    before = site.record()
    (site.fill(before) / "status.json").write_text('{"job_id":"1"}\n')
    record = site.record()
    site.shell.env["SCRATCH"] = str(tmp_path / "new")
    with pytest.raises(ConfigError, match=f"was {tmp_path}/old/x, and is now {tmp_path}/new/x"):
        site.fill(record)
    assert not (Path(record.run_dir)).exists()
    assert site.fill().parent == tmp_path / "new/x/runs"
    site.place.look(site.workspace.history, [before])
    assert '"1"' in site.workspace.history.seen(before).status.read_text()


def test_what_is_known_of_the_root_is_asked_for_once(far_one: Far) -> None:
    far_one.place.root()
    asked = len(far_one.shell.asked)
    again = far_one.new_place()
    assert again.root() == str(far_one.root)
    assert len(far_one.shell.asked) == asked
    cache = far_one.workspace.history.paths.places / "far.json"
    assert json.loads(cache.read_text())["root"] == str(far_one.root)
    cache.write_text("{half")
    assert far_one.new_place().root() == str(far_one.root)


def test_a_root_that_cannot_be_written_to(far_one: Far) -> None:
    record = far_one.record()
    (far_one.shell.home / "r o'o\"t%").write_text("in the way")
    with pytest.raises(CommandError, match=r"cannot make .*runs"):
        far_one.fill(record)


def test_what_was_sent_is_remembered(far_one: Far) -> None:
    """By the next process, too: which then asks nothing more than it has to."""
    far_one.fill()
    for change in ("", "changed"):
        (far_one.source / "more").write_text(change)
        record = far_one.record()
        far_one.place = far_one.new_place()
        asked = len(far_one.shell.asked)
        far_one.fill(record)
        assert len(far_one.shell.asked) == asked + 1
    assert hows(far_one) == ["ask", "pack", "pack", "pack"]
    far_one.place = far_one.new_place()
    far_one.fill()
    assert hows(far_one)[-1] == "store"


def test_snapshots_nobody_knows_are_passed_over(far_one: Far) -> None:
    """Other workspaces send theirs to the same store."""
    far_one.fill()
    (far_one.root / "snapshots.git/have" / ("0" * 40)).touch()
    (far_one.root / "snapshots.git/have" / "-x; id").touch()
    (far_one.source / "new").write_text("new")
    assert contents(far_one.fill() / "code") == contents(far_one.source)


def test_the_call_of_a_function_comes_whole_and_before_the_script(site: Far) -> None:
    """For its owner alone; one that is cut off leaves nothing that could be called."""
    record = replace(site.record(), type="function")
    call = bytes(range(256)) * 5000
    home = site.workspace.history.paths.run(record.id)
    home.function.write_bytes(call)
    words = [site.root.as_posix(), record.id, str(len(call)), "0", "mine"]
    result = site.place.ask_to_keep(words, call[:-1])
    assert result.rc == 95 and "did not come whole" in result.stderr
    there = Path(record.run_dir)
    assert not any(there.iterdir())

    site.fill(record)
    assert (there / "function.pyz").read_bytes() == call
    assert modes(there)[os.fsdecode(there / "function.pyz")] == 0o600
    assert (there / "results").is_dir() and (there / "job.sh").exists()
    assert [path.name for path in there.iterdir() if path.name.startswith("function")] == ["function.pyz"]

    (there / "sbatch.0").mkdir()  # it was submitted: what comes late changes nothing any more
    (there / "function.pyz").unlink()
    assert site.place.ask_to_keep(words, call).ok
    assert not (there / "function.pyz").exists()


def test_the_folder_of_an_array(site: Far) -> None:
    """A link for each task to the log of its run; it goes with the last of them."""
    records = [site.record() for _ in range(3)]
    for index, record in enumerate(records):
        record.submission["array"] = {"leader": records[0].id, "index": index}
        site.fill(record)
    site.place.gather(records, "#!/bin/bash\n: 'a script'\n")
    folder = site.root / "arrays" / records[0].id
    assert (folder / "job.sh").read_text() == "#!/bin/bash\n: 'a script'\n"
    assert set(modes(folder).values()) == {0o700, 0o600}
    for index, record in enumerate(records):
        (folder / f"{index}.txt").write_text(record.id)
        assert (Path(record.run_dir) / "system_logs/job.txt").read_text() == record.id
    site.place.gather(records, "#!/bin/bash\n")  # once more, after a connection that broke
    assert (folder / "job.sh").read_text() == "#!/bin/bash\n"
    for record in records:
        assert folder.exists()
        site.place.remove(record)
    assert not folder.exists() and not any((site.root / "runs").iterdir())
