"""Run.get_context(), as a script uses it: real processes, that are killed, forked, and queued again."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcrun
from hpcrun.metrics.reading import KINDS, Point, read_points
from hpcrun.places import lib
from hpcrun.tracking_place import inside
from hpcrun.tracking_run import _CONTEXTS, Run
from tests.engine_help import until

RUN_ID = "exp_20260131-120000_abcdefgh"
HOUSE = Path(hpcrun.__file__).parent.parent


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a run that this process is in."""
    monkeypatch.chdir(tmp_path)
    for name, value in variables(tmp_path / "run").items():
        monkeypatch.setenv(name, value)
    for name in ("RANK", "SLURM_PROCID", "HPCRUN_ATTEMPT", "HPCRUN_OFFLINE_DIR"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path / "run"
    for run in _CONTEXTS.values():
        run._place.lines.close()
        run._place.told.close()
    _CONTEXTS.clear()


def variables(folder: Path) -> dict[str, str]:
    for name in ("metrics", "code/outputs"):
        (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    outputs = str(folder / "code/outputs")
    return {"HPCRUN_RUN_ID": RUN_ID, "HPCRUN_RUN_DIR": str(folder), "HPCRUN_OUTPUT_DIR": outputs}


def points(folder: Path) -> list[Point]:
    return [*read_points(folder / "metrics")]


def values(folder: Path, name: str = "x") -> list[Any]:
    return [point.value for point in points(folder) if point.name == name]


def told(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics/told_000.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def python(code: str, folder: Path | None, *, cwd: Path, check: bool = True, **env: str) -> tuple[str, str]:
    """A program of its own, in a run or outside of any; what it says."""
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HOUSE), **env}
    known |= {} if folder is None else variables(folder)
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, env=known, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout, done.stderr


# What is logged is what is read.

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
NAMES = st.text(min_size=1)


def same(a: Any, b: Any) -> bool:
    """Equal and of one type; NaN is NaN."""
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and bool(a == b)


def fresh(folder: Path) -> Run:
    run = Run.get_context()
    if (folder / "metrics/rank_000.jsonl").exists():
        os.truncate(folder / "metrics/rank_000.jsonl", 0)
    return run


@given(
    name=NAMES, value=PLAIN, step=st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
@settings(deadline=None)
def test_values_come_back_as_they_were(name: str, value: Any, step: Any) -> None:
    run = fresh(Path(os.environ["HPCRUN_RUN_DIR"]))
    run.log(name, value, step=step)
    (found,) = points(Path(os.environ["HPCRUN_RUN_DIR"]))
    assert (found.name, found.kind, found.rank, found.attempt) == (name, "scalar", 0, 1)
    assert same(found.value, value) and same(found.step, step)


@given(
    rows=st.lists(PLAIN),
    row=st.dictionaries(NAMES.filter(lambda n: n not in ("self", "name", "description")), PLAIN, min_size=1),
    table=st.integers(0, 4).flatmap(
        lambda n: st.dictionaries(NAMES, st.lists(PLAIN, min_size=n, max_size=n), max_size=4)
    ),
)
@settings(deadline=None, max_examples=50)
def test_lists_rows_and_tables_come_back(rows: list[Any], row: dict[str, Any], table: dict[str, Any]) -> None:
    folder = Path(os.environ["HPCRUN_RUN_DIR"])
    run = fresh(folder)
    run.log_list("list", rows)
    run.log_row("row", **row)
    run.log_table("table", table)
    found = points(folder)
    assert [point.kind for point in found] == ["list", "row", "table"]
    assert same([point.value for point in found], [rows, row, table])


@pytest.fixture(autouse=True)
def _in_a_run(folder: Path) -> None:
    """The tests by hypothesis cannot ask for it themselves."""


def test_numbers_of_other_libraries_become_pythons(folder: Path) -> None:
    np = pytest.importorskip("numpy")
    run = Run.get_context()
    given_ = [np.int64(5), np.uint8(6), np.float32(0.5), np.float64(0.25), np.bool_(True), np.str_("a")]
    given_ += [np.array(7), np.array([8.0]), np.float64("nan")]
    for value in given_:
        run.log("x", value, step=np.int32(3))
    run.log_list("list", np.arange(3))
    run.log_table("table", {"a": np.array([1.5, 2.5]), "b": [np.int64(1), None]})
    run.log_confusion_matrix("m", {"data": {"matrix": np.eye(2), "labels": ("a", np.int64(1))}})
    found = values(folder)
    assert [type(value) for value in found] == [int, int, float, float, bool, str, int, float, float]
    assert found[:8] == [5, 6, 0.5, 0.25, True, "a", 7, 8.0]
    assert {point.step for point in points(folder) if point.name == "x"} == {3}
    assert values(folder, "list") == [[0, 1, 2]]
    assert values(folder, "table") == [{"a": [1.5, 2.5], "b": [1, None]}]
    assert values(folder, "m") == [{"data": {"matrix": [[1.0, 0.0], [0.0, 1.0]], "labels": ["a", 1]}}]


class Tensor:
    """What a tensor of torch can do, of those things that count."""

    def __init__(self, *inner: float) -> None:
        self.inner = inner
        self.shape = (len(inner),) if len(inner) != 1 else ()

    def item(self) -> float:
        if len(self.inner) != 1:
            raise RuntimeError("a Tensor with 3 elements cannot be converted to Scalar")
        return self.inner[0]

    def tolist(self) -> list[float]:
        return [*self.inner]


class Eager:
    """One of TensorFlow: its numpy() is a number of numpy's."""

    def numpy(self) -> Tensor:
        return Tensor(2.5)


class Level(IntEnum):
    HIGH = 3


def test_other_things_that_are_numbers(folder: Path) -> None:
    run = Run.get_context()
    for value in (Tensor(0.5), Eager(), Level.HIGH, Fraction(1, 4), 10**30):
        run.log("x", value)
    assert same(values(folder), [0.5, 2.5, 3, 0.25, 10**30])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            [1, 2],
            "the value of 'x' is a list, and must be one number, text, bool or None: a list goes to log_list",
        ),
        (Tensor(1, 2, 3), r"Tensor of shape \(3,\)"),
        ({"a": 1}, "a dict"),
        (range(3), "a range"),
        (object(), "a object"),
        (b"x", "a bytes"),
        (1j, "a complex"),
    ],
)
def test_what_is_no_value_is_refused(folder: Path, value: Any, words: str) -> None:
    """It never becomes text, and nothing of it is written."""
    with pytest.raises(TypeError, match=words):
        Run.get_context().log("x", value)
    assert points(folder) == []


def test_mistakes_are_said_plainly(folder: Path) -> None:
    run = Run.get_context()
    with pytest.raises(
        ValueError, match="the columns of the table 't' must be equally long: 'a' has 2, 'b' has 1"
    ):
        run.log_table("t", {"a": [1, 2], "b": [1]})
    with pytest.raises(TypeError, match="'a' of 'r' is a list"):
        run.log_row("r", a=[1])
    with pytest.raises(TypeError, match="a row has columns"):
        run.log_row("r")
    with pytest.raises(TypeError, match="must be a list of values"):
        run.log_list("l", "text")
    with pytest.raises(TypeError, match="the step of 'x' must be a number"):
        run.log("x", 1, step="one")
    with pytest.raises(ValueError, match="must be a finite number"):
        run.log("x", 1, step=math.nan)
    with pytest.raises(TypeError, match="must be named by text"):
        run.log(3, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must have a name"):
        run.log("", 1)
    with pytest.raises(ValueError, match="is no JSON"):
        run.log_residuals("r", "{")
    with pytest.raises(TypeError, match="must be a dict"):
        run.log_predictions("p", "[1]")
    with pytest.raises(TypeError, match="tags are names and their values"):
        run.set_tags("seed")  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="has no 'wait_for_completion' in its job"):
        run.wait_for_completion()
    assert points(folder) == [] and told(folder) == []


def test_documents_images_and_what_is_read_back(folder: Path) -> None:
    run = Run.get_context()
    document = {"schema_type": "confusion_matrix", "data": {"class_labels": ["a"], "matrix": [[1]]}}
    run.log_confusion_matrix("cm", json.dumps(document))
    run.log_accuracy_table("at", document)
    run.log_residuals("re", document)
    run.log_predictions("pr", document)

    class Figure:
        def savefig(self, place: io.BytesIO, format: str) -> None:
            place.write(f"a {format}".encode())

    run.log_image("../my plot", plot=Figure())
    run.log_image("../my plot", plot=Figure())
    (folder / "code/outputs/there.jpg").write_bytes(b"jpg")
    run.log_image("kept", path=folder / "code/outputs/there.jpg", step=2)
    found = points(folder)
    assert [point.kind for point in found] == [*KINDS[5:], "image", "image", "image"]
    assert all(point.value == document for point in found[:4])
    images = [point.value["path"] for point in found[4:]]
    assert images == ["outputs/images/_my_plot.png", "outputs/images/_my_plot_1.png", "outputs/there.jpg"]
    assert (folder / "code" / images[0]).read_bytes() == b"a png"
    run.log("x", 1)
    run.log("y", 1)
    run.log("y", 2)
    run.log_list("l", [1])
    run.log_list("l", [2])
    run.log_row("r", a=1)
    run.log_row("r", a=2, b=3)
    run.log_table("t", {"a": [1]})
    run.log_table("t", {"a": [2, 3]})
    back = run.get_metrics()
    assert {name: back[name] for name in "xylrt"} == {
        "x": 1,
        "y": [1, 2],
        "l": [1, 2],
        "r": {"a": [1, 2], "b": [None, 3]},
        "t": {"a": [1, 2, 3]},
    }
    assert run.get_metrics("x") == {"x": 1}


# Files.


def test_uploads_go_into_the_outputs(folder: Path, tmp_path: Path) -> None:
    run = Run.get_context()
    outputs = folder / "code/outputs"
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "deep/a.txt").write_text("a")
    (tmp_path / "deep/er/b.txt").write_text("b")
    (tmp_path / "deep/link").symlink_to("a.txt")
    os.mkfifo(tmp_path / "deep/pipe")
    run.upload_file("outputs/m.txt", tmp_path / "deep/a.txt")
    run.upload_file("bytes", io.BytesIO(b"123"))
    run.upload_file("text", io.StringIO("äöü"))
    run.upload_folder("all", tmp_path / "deep")
    run.upload_files(["p", "q"], [str(tmp_path / "deep/a.txt")] * 2)
    run.upload_file("all/a.txt", outputs / "all/a.txt")
    found = {str(p.relative_to(outputs)): p.read_text() for p in outputs.rglob("*") if p.is_file()}
    assert found == {
        "m.txt": "a",
        "bytes": "123",
        "text": "äöü",
        "p": "a",
        "q": "a",
        "all/a.txt": "a",
        "all/er/b.txt": "b",
        "all/link": "a",
    }
    for path in outputs.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_folder_that_holds_the_outputs(folder: Path) -> None:
    run = Run.get_context()
    (folder / "code/train.py").write_text("x")
    (folder / "code/outputs/old").write_text("x")
    run.upload_folder("code", folder / "code")
    assert [p.name for p in (folder / "code/outputs/code").rglob("*")] == ["train.py"]


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/../../x", "", ".", "a\0b", "outside/x", "outside/../../x"]
)
def test_nothing_goes_outside_of_them(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (folder / "code/outputs/outside").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"is no name in the run's outputs|leads out of the run's outputs"):
        Run.get_context().upload_file(name, io.BytesIO(b"x"))
    assert [*(tmp_path / "elsewhere").iterdir()] == []


def test_a_link_in_a_files_place_is_replaced_and_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (folder / "code/outputs/x").symlink_to(tmp_path / "precious")
    Run.get_context().upload_file("x", io.BytesIO(b"new"))
    assert (tmp_path / "precious").read_text() == "precious"
    assert inside(folder / "code/outputs", "x").read_text() == "new"


def test_an_upload_that_fails_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError("gone")

    run = Run.get_context()
    with pytest.raises(OSError, match="gone"):
        run.upload_file("x", Broken())
    with pytest.raises(FileNotFoundError):
        run.upload_file("y", tmp_path / "not there")
    with pytest.raises(IsADirectoryError, match="use upload_folder"):
        run.upload_file("z", tmp_path)
    assert [*(folder / "code/outputs").iterdir()] == []


# Processes.


def test_one_that_is_killed_loses_nothing(folder: Path, tmp_path: Path) -> None:
    """All that log() had returned for is there; what it was killed in is skipped."""
    code = "from hpcrun import Run\nimport sys\nrun = Run.get_context()\nn = 0\n"
    code += (
        "while True:\n    run.log('x', n)\n    n += 1\n    sys.stdout.write(f'{n}\\n'); sys.stdout.flush()\n"
    )
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HOUSE), **variables(folder)}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        seen = [process.stdout.readline() for _ in range(500)]
        process.send_signal(signal.SIGKILL)
        seen += process.stdout.readlines()
    returned = int([line for line in seen if line.endswith("\n")][-1])
    found = values(folder)
    assert found == [*range(len(found))]
    assert len(found) >= returned >= 500


def test_after_a_torn_line_the_next_begins_anew(folder: Path) -> None:
    """As where the machine went down; the run is queued again, and goes on in the same file."""
    path = folder / "metrics/rank_000.jsonl"
    path.write_text('{"n": "x", "v": 1, "t": 1.0}\n{"n": "x", "v": 2, "t"')
    os.environ["HPCRUN_ATTEMPT"] = "2"
    try:
        Run.get_context().log("x", 3)
        Run.get_context().log("x", 4)
    finally:
        del os.environ["HPCRUN_ATTEMPT"]
    assert [(p.value, p.attempt) for p in points(folder)] == [(1, 1), (3, 2), (4, 2)]
    assert len(path.read_bytes().splitlines()) == 4


def test_threads_and_forks_write_whole_lines(folder: Path, tmp_path: Path) -> None:
    code = """
import os, threading
from hpcrun import Run
run = Run.get_context()
def work(name):
    for n in range(500):
        run.log(name, n)
threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(4)]
for thread in threads: thread.start()
children = []
for i in range(2):
    pid = os.fork()
    if pid == 0:
        work(f"f{i}")
        os._exit(0)
    children.append(pid)
for thread in threads: thread.join()
for pid in children: assert os.waitpid(pid, 0)[1] == 0
"""
    python(code, folder, cwd=tmp_path)
    for name in ("t0", "t1", "t2", "t3", "f0", "f1"):
        assert values(folder, name) == [*range(500)], name
    assert len((folder / "metrics/rank_000.jsonl").read_bytes().splitlines()) == 3000


def test_a_signals_handler_may_log_while_the_program_does(folder: Path, tmp_path: Path) -> None:
    code = """
import signal, threading, os
from hpcrun import Run
run = Run.get_context()
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
seen = []
signal.signal(signal.SIGALRM, lambda *_: (seen.append(1), run.log("signal", len(seen))))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
n = 0
while len(seen) < 100:
    run.log("x", n)
    n += 1
signal.setitimer(signal.ITIMER_REAL, 0)
""".replace("signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\nseen", "seen")
    python(code, folder, cwd=tmp_path)
    assert len(values(folder, "signal")) >= 100
    assert values(folder) == [*range(len(values(folder)))]


def test_rank_0_writes_and_others_do_if_asked(folder: Path, tmp_path: Path) -> None:
    code = "from hpcrun import Run\nrun = Run.get_context({})\nrun.log('x', 1)\nrun.tag('a', 'b')\n"
    code += "child = run.child_run('c')\nchild.log('y', 2)\nprint(child.id)\n"
    ids = {python(code.format(""), folder, cwd=tmp_path, RANK=rank)[0] for rank in ("0", "1")}
    assert len(ids) == 1, "of all ranks the same child"
    assert [(p.rank, p.value) for p in points(folder)] == [(0, 1)]
    assert [path.name for path in (folder / "metrics").glob("told*")] == ["told_000.jsonl"]
    python(code.format("all_ranks=True"), folder, cwd=tmp_path, RANK="1")
    assert [(p.rank, p.value) for p in points(folder)] == [(0, 1), (1, 1)]
    below = folder / "metrics/children" / ids.pop().strip()
    assert [p.rank for p in read_points(below)] == [0, 1]


def test_a_full_disk_is_said_once_and_ends_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "metrics/rank_000.jsonl").symlink_to("/dev/full")
    code = (
        "from hpcrun import Run\nrun = Run.get_context()\nfor n in range(10): run.log('x', n)\nprint('done')"
    )
    out, err = python(code, folder, cwd=tmp_path)
    assert out == "done\n"
    first, last = err.splitlines()
    assert "cannot be written: No space left on device. The program goes on" in first
    assert "10 lines that were logged are not in" in last


def test_the_files_are_the_owners_alone(folder: Path, tmp_path: Path) -> None:
    code = "import os; os.umask(0)\nfrom hpcrun import Run\nrun = Run.get_context()\n"
    python(code + "run.log('x', 1); run.tag('a'); run.child_run().log('x', 1)", folder, cwd=tmp_path)
    for path in (folder / "metrics").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


# Children and tags.


def test_what_is_told(folder: Path) -> None:
    run = Run.get_context()
    assert Run.get_context() is run
    assert (run.id, run.parent_id, run.name, run.offline) == (RUN_ID, None, RUN_ID, False)
    run.tag("a")
    run.set_tags({"n": 3, "b": True})
    run.remove_tags("a")
    run.display_name = "name"
    run.fail("nothing comes of it")
    child = run.child_run("c")
    child.tag("k", "v")
    child.fail("words", error_code="E1")
    child.complete()
    events = [(e["e"], e.get("c"), e["v"]) for e in told(folder)]
    assert events == [
        ("tags", None, {"a": ""}),
        ("tags", None, {"n": "3", "b": "True"}),
        ("tags", None, {"a": None}),
        ("name", None, "name"),
        ("child", child.id, {"name": "c", "parent": RUN_ID}),
        ("tags", child.id, {"k": "v"}),
        ("end", child.id, {"state": "Failed", "message": "E1: words"}),
    ]
    assert (child.parent_id, child.get_status(), run.get_status()) == (RUN_ID, "Failed", "Running")
    assert (run.get_tags(), run.get_children()) == ({"n": "3", "b": "True"}, [child])


def test_children_by_number_and_by_tag(folder: Path) -> None:
    run = Run.get_context()
    assert len({child.id for child in run.create_children(3)}) == 3
    tagged = run.create_children(tag_key="lr", tag_values=[0.1, 0.2])
    assert [child.tags for child in tagged] == [{"lr": "0.1"}, {"lr": "0.2"}]
    with pytest.raises(TypeError, match="either count, or tag_key and tag_values"):
        run.create_children()


def test_queued_again_the_same_children_go_on(folder: Path, tmp_path: Path) -> None:
    """Those with names: the first of a name is the first again, the second the second."""
    code = "from hpcrun import Run\nrun = Run.get_context()\n"
    code += "print([run.child_run(name).id for name in ('a', 'a', 'b', None)])"
    first, again = (
        json.loads(python(code, folder, cwd=tmp_path, HPCRUN_ATTEMPT=n)[0].replace("'", '"')) for n in "12"
    )
    assert len(set(first)) == 4
    assert again[:3] == first[:3] and again[3] != first[3]


# Outside of a run.

EVERYTHING = """
import io
from hpcrun import Run
run = Run.get_context()
with run:
    run.log("x", 1, "words", step=2); run.log_list("l", []); run.log_row("r", a=1); run.log_table("t", {})
    run.log_confusion_matrix("c", {}); run.log_image("i", path=__import__("sys").executable)
    run.tag("a", 1); run.set_tags({}); run.remove_tags(["a"]); run.add_properties({"p": 1})
    run.upload_file("f", io.BytesIO(b"x")); run.display_name = "n"; run.description = "d"
    with run.child_run("c") as child: child.log("x", 2)
    run.create_children(2); run.flush(); run.get_metrics(); run.get_tags(); run.get_properties()
    run.get_status(); run.get_children(); run.name; run.parent; run.experiment.name; run.tags; run.properties
run.complete(); run.fail(); run.cancel()
print(run.offline)
"""


def test_the_same_program_outside_of_a_run(tmp_path: Path) -> None:
    inside_folder = tmp_path / "inside"
    assert python(EVERYTHING, inside_folder, cwd=tmp_path) == ("False\n", "")
    home = tmp_path / "home"
    home.mkdir()
    out, err = python(EVERYTHING, None, cwd=home)
    (folder,) = (p for p in (home / "hpcrun_offline").iterdir() if p.is_dir())
    assert out == "True\n"
    assert err == f"hpcrun: this is no run of hpcrun: what the program logs goes to {folder}\n"
    assert (home / "hpcrun_offline/.gitignore").read_text() == "*\n"
    below = {
        str(p.relative_to(top)).replace(p.parts[-2], "ID")
        if "children" in p.parts
        else str(p.relative_to(top))
        for top in (folder, inside_folder)
        for p in top.rglob("*")
        if p.is_file() and "code" not in p.parts and "outputs" not in p.parts
    }
    assert below == {"metrics/rank_000.jsonl", "metrics/told_000.jsonl", "metrics/children/ID/rank_000.jsonl"}
    assert same(
        [(p.name, p.value) for p in points(folder)][:5],
        [(p.name, p.value) for p in points(inside_folder)][:5],
    )
    assert {p.name for p in (folder / "outputs").rglob("*")} >= {"f", "images"}
    assert all(not p.stat().st_mode & 0o077 for p in folder.rglob("*"))


def test_in_a_workspace_no_snapshot_takes_it_along(tmp_path: Path) -> None:
    (tmp_path / ".hpcrun").mkdir()
    (tmp_path / "deep").mkdir()
    python("from hpcrun import Run; Run.get_context().log('x', 1)", None, cwd=tmp_path / "deep")
    (folder,) = (p for p in (tmp_path / ".hpcrun/offline").iterdir() if p.is_dir())
    assert values(folder) == [1]
    assert [*(tmp_path / "deep").iterdir()] == []


def test_nothing_logged_nothing_made(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    code = "from hpcrun import Run; run = Run.get_context(); run.complete()"
    assert python(code, None, cwd=home) == ("", "")
    assert python("from hpcrun import Run; Run.get_context().log('x', 1)", None, cwd=home, RANK="1")[1] == ""
    assert [*home.iterdir()] == []


def test_without_offline_it_is_an_error(tmp_path: Path) -> None:
    code = "from hpcrun import Run; Run.get_context(allow_offline=False)"
    assert "in no run of hpcrun" in python(code, None, cwd=tmp_path, check=False)[1]


# What it costs to import, and where it runs.

COUNT = "import sys; before = set(sys.modules); from hpcrun import Run; run = Run.get_context(); "
COUNT += "run.log('x', 1); print(*sorted(set(sys.modules) - before))"


def modules(path: str, tmp_path: Path) -> set[str]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": path, **variables(tmp_path / "run")}
    argv = [sys.executable, "-S", "-c", COUNT]
    done = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    return {*done.stdout.split()}


DEAR = {
    "dataclasses",
    "inspect",
    "sqlite3",
    "logging",
    "asyncio",
    "socket",
    "ssl",
    "subprocess",
    "urllib.request",
}


def test_importing_it_is_cheap(tmp_path: Path) -> None:
    """With hpcrun installed: neither the history nor any library, nor what is dear of Python's own."""
    found = modules(str(HOUSE), tmp_path)
    ours = {name for name in found if name.startswith("hpcrun")}
    assert ours == {
        *("hpcrun", "hpcrun.errors", "hpcrun.experiment", "hpcrun.run", "hpcrun.states"),
        *("hpcrun.run_metrics", "hpcrun.run_results", "hpcrun.interactive_run"),
        *("hpcrun.tracking_lines", "hpcrun.tracking_place", "hpcrun.tracking_run", "hpcrun.tracking_values"),
    }
    assert not found & DEAR
    assert len(found - ours) < 60, sorted(found - ours)


def test_importing_what_is_brought_along_is_cheaper(tmp_path: Path) -> None:
    put_lib(tmp_path)
    found = modules(str(tmp_path / "lib"), tmp_path)
    assert "hpcrun.tracking_run" in found and "hpcrun.run" not in found
    assert not found & DEAR
    assert len(found) < 60, sorted(found)


def put_lib(folder: Path) -> Path:
    for name, text in lib.files().items():
        path = folder / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "lib"


# Beside the Python of the tests, wherever the home is, or the system's.
OLD = [*Path(sys.base_prefix).parent.glob("3.8.*/bin/python3.8"), *Path("/usr/bin").glob("python3.8")]


@pytest.mark.skipif(not OLD, reason="there is no Python 3.8 on this machine")
def test_an_old_python_runs_it(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(put_lib(tmp_path)), "PYTHONWARNINGS": "error"}
    env |= variables(tmp_path / "run")
    for each in (env, {name: value for name, value in env.items() if not name.startswith("HPCRUN_")}):
        argv = [str(OLD[0]), "-c", EVERYTHING]
        done = subprocess.run(argv, env=each, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    assert [p.name for p in points(tmp_path / "run")] == ["x", "l", "r", "t", "c", "i"]


def test_another_package_of_the_name_gets_what_scripts_look_for(tmp_path: Path) -> None:
    """It is in the environment for a reason, and stays usable."""
    other = tmp_path / "site/hpcrun"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("from .mine import answer\n")
    (other / "mine.py").write_text("answer = 42\n")
    path = os.pathsep.join([str(put_lib(tmp_path)), str(tmp_path / "site")])
    code = "import hpcrun; from hpcrun import Run, tracking; from hpcrun.mine import answer; "
    code += "Run.get_context().log('x', hpcrun.answer); print(hpcrun.__file__, tracking.restart_count())"
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": path, **variables(tmp_path / "run")}
    argv = [sys.executable, "-S", "-c", code]
    done = subprocess.run(
        argv, env=env, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(other / "__init__.py"), "0"]
    assert values(tmp_path / "run") == [42]


def test_the_stand_in_says_what_it_has_not(tmp_path: Path) -> None:
    argv = [sys.executable, "-S", "-c", "from hpcrun import Experiment"]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(put_lib(tmp_path))}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert "cannot import name 'Experiment'" in done.stderr
    argv[-1] = "import hpcrun; hpcrun.Experiment"
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (
        "this environment has no hpcrun, and the run brings along no more than Run and tracking"
        in done.stderr
    )


def test_it_is_live(folder: Path, tmp_path: Path) -> None:
    """A point is there when log() returns, while the program goes on."""
    code = "from hpcrun import Run\nimport time\nRun.get_context().log('x', 1)\ntime.sleep(60)"
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HOUSE), **variables(folder)}
    with subprocess.Popen([sys.executable, "-c", code], env=env) as process:
        until(lambda: values(folder) == [1], "the point")
        process.kill()
