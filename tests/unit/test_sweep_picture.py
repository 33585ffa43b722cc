"""The picture of a sweep: what is where on it, and that it is drawn of whatever a sweep may have."""

from __future__ import annotations

import json
import math
import random
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun import (
    Experiment,
    GridParameterSampling,
    HyperDriveConfig,
    HyperDriveRun,
    NoTerminationPolicy,
    Option,
    PrimaryMetricGoal,
    ScriptRunConfig,
    Workspace,
    choice,
    lognormal,
    loguniform,
    qloguniform,
    randint,
    uniform,
)
from hpcrun.engine.sweep_picture import in_order, look_of
from hpcrun.engine.sweep_trials import Trial
from hpcrun.errors import NotFoundError, UsageError
from hpcrun.models.expressions import Expression
from hpcrun.states import RunState
from hpcrun.sweeps.scales import Scale, is_number, metric_scale, parameter_scale
from hpcrun.sweeps.shown import (
    LOOKS,
    MOST_PARAMETERS,
    Picture,
    Shown,
    curve_of_best,
    in_front,
    picture,
    room,
    spread,
)  # fmt: skip
from hpcrun.sweeps.space import draw as point
from hpcrun.sweeps.space import space_of
from tests.cli_help import document, program, refused, typed
from tests.engine_help import source, workspace

GOALS = st.sampled_from(["minimize", "maximize"])
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.lists(st.none() | st.floats(), max_size=40)


@given(VALUES, GOALS)
def test_the_curve_only_gets_better(values: list[float | None], goal: str) -> None:
    curve = curve_of_best(values, goal)
    known = [value for value in values if value is not None and math.isfinite(value)]
    assert all(values[place] == value for place, value in curve)
    best = [value for _, value in curve]
    assert best == sorted(set(best), reverse=goal == "minimize")
    assert [place for place, _ in curve] == sorted(place for place, _ in curve)
    if known:
        assert curve[-1][1] == (min(known) if goal == "minimize" else max(known))
        assert curve[-1][0] == values.index(curve[-1][1]), "of equals, the first"
    else:
        assert curve == []


@given(st.lists(NUMBERS, min_size=1, max_size=40), GOALS)
def test_the_best_and_most_others_lie_within_the_scale(values: list[float], goal: str) -> None:
    scale = metric_scale(values, goal)
    within = [value for value in values if scale.low <= value <= scale.high]
    assert (min(values) if goal == "minimize" else max(values)) in within
    assert len(within) >= 0.74 * len(values)
    places = [scale.place(value) for value in sorted(values)]
    assert all(place is not None and 0 <= place <= 1 for place in places)
    assert places == sorted(p for p in places if p is not None), "in their order"


def test_what_diverged_does_not_press_the_others_together() -> None:
    values = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1e30]
    scale = metric_scale(values, "minimize")
    assert (scale.low, scale.high, scale.log) == (0.5, 1.1, False)
    assert metric_scale([-value for value in values], "maximize").low == -1.1
    assert metric_scale(values, "maximize").high == 1e30, "there it is the best"
    assert metric_scale([10.0**-n for n in range(9)], "minimize") == Scale(1e-8, 1.0, log=True)
    assert not metric_scale([-1.0, 1e-9, 1e9, 2e9, 3e9], "maximize").log


@given(st.lists(st.booleans() | st.integers() | NUMBERS | st.text(max_size=5), min_size=1, max_size=30))
def test_every_value_of_a_parameter_has_a_place(values: list[Any]) -> None:
    values = [v for v in values if not isinstance(v, int) or abs(v) < 2**53]
    scale = parameter_scale(values)
    for value in values:
        place = scale.place(value)
        assert place is not None and 0 <= place <= 1
    assert scale.place(None) is None and scale.place(math.nan) is None
    if scale.options:
        found = {scale.place(value) for value in scale.options}
        assert len(found) == len(scale.options), "each has a place of its own"


@given(NUMBERS, NUMBERS, st.booleans(), st.integers(2, 9))
def test_ticks_stand_where_their_numbers_are(one: float, other: float, log: bool, most: int) -> None:
    low, high = sorted((one, other))
    scale = Scale(low, high, log and low > 0)
    ticks = scale.ticks(most)
    assert 1 <= len(ticks) <= most + 1
    assert len({text for _, text in ticks}) == len(ticks)
    places = [place for place, _ in ticks]
    assert places == sorted(places) and all(0 <= place <= 1 for place in places)


@pytest.mark.parametrize(
    ("scale", "texts"),
    [
        (Scale(0.03, 1.02), ["0.2", "0.4", "0.6", "0.8", "1"]),
        (Scale(-1.0, 1.0), ["-1", "-0.5", "0", "0.5", "1"]),
        (Scale(1, 8, whole=True), ["2", "4", "6", "8"]),
        (Scale(3, 4, whole=True), ["3", "4"]),
        (Scale(1e-5, 0.2, log=True), ["1e-05", "0.0001", "0.001", "0.01", "0.1"]),
        (Scale(2.0, 7.0, log=True), ["2", "3", "4", "5", "6", "7"]),
        (Scale(100000.1, 100000.3), ["100000.1", "100000.15", "100000.2", "100000.25", "100000.3"]),
        (Scale(4.0, 4.0), ["4"]),
        (Scale(options=(1, 2.0, "a", True)), ["1", "2", "a", "True"]),
        (Scale(options=tuple("abcdefghijkl")), [*"abcdefghijkl"]),
        (Scale(options=tuple("abcdefghijklmnop")), [*"acegikmo"]),
    ],
)
def test_ticks_are_round_numbers(scale: Scale, texts: list[str]) -> None:
    assert [text for _, text in scale.ticks()] == texts


@pytest.mark.parametrize(
    ("values", "expressions", "expected"),
    [
        ([0.1, 0.01], [loguniform(-9, 0)], Scale(0.01, 0.1, log=True)),
        ([0.1, 5.0], [lognormal(0, 1)], Scale(0.1, 5.0, log=True)),
        ([0, 5], [qloguniform(-9, 2, 5)], Scale(0, 5, whole=True)),  # 0 has no logarithm
        ([3, 5], [randint(9)], Scale(3, 5, whole=True)),
        ([0.5], [uniform(0, 1)], Scale(0.5, 0.5)),
        ([64], [choice(128, 32, 64)], Scale(options=(32, 64, 128))),  # what was not tried has its place, too
        ([3], [choice(*range(1, 31))], Scale(1, 30, whole=True)),
        ([1], [choice([2**n for n in range(14)])], Scale(1, 8192, log=True, whole=True)),
        (["b"], [choice("c", "b", 3)], Scale(options=(3, "c", "b"))),
        (["7"], [choice([str(n) for n in range(99)])], Scale(options=("7",))),
        ([True], [choice(True, False)], Scale(options=(True, False))),
        ([0.1, 2], [loguniform(-9, 0), choice(1, 2)], Scale(0.1, 2, log=True)),
        ([], [uniform(0, 1)], Scale()),
    ],
)
def test_the_scale_of_a_parameter(values: list[Any], expressions: list[Expression], expected: Scale) -> None:
    assert parameter_scale(values, expressions) == expected


@given(st.integers(1, 60), st.integers(1, 10_000), st.integers(0, 10_000))
def test_options_do_not_meet(options: int, trials: int, number: int) -> None:
    assert 0 <= room(options, trials) < 1 / options
    assert -0.5 <= spread(number) <= 0.5
    assert room(options, 1) == room(0, trials) == 0.0


@given(VALUES, GOALS, st.integers(1, 30))
def test_the_best_are_in_front(values: list[float | None], goal: str, most: int) -> None:
    trials = [Shown(n, "", {}, v, LOOKS[0]) for n, v in enumerate(values) if v is None or math.isfinite(v)]
    found = in_front(trials, goal, most)
    valued = [each for each in trials if each.value is not None]
    assert len(found) == min(most, len(valued)) == len({each.number for each in found})
    kept = [each.value or 0.0 for each in found]
    assert kept == sorted(kept, reverse=goal == "minimize")
    if valued:
        assert kept[-1] == (min if goal == "minimize" else max)(each.value or 0.0 for each in valued)


SPACE = {
    "lr": loguniform(-9, -2),
    "optimizer": choice("sgd", Option("adam", {"beta": uniform(0.8, 0.99)})),
    "batch": choice(32, 64, 128),
    "layers": randint(8),
    "bias": choice(True, False),
}

WIDE = {f"a.long.name.of.parameter_{n}": choice("a", "b" * 40) for n in range(20)}


def made(count: int, space: Mapping[str, Expression] = SPACE, goal: str = "minimize") -> Picture:
    """So many trials, drawn at random: in every state, with values and without, some far off."""
    chance, found = random.Random(count), []
    for number in range(count):
        parameters = {**point(space_of(space), lambda _: chance.random()), "epochs": 5}
        value: float | None = chance.choice([chance.random(), chance.random(), -1e9, None])
        found.append(Shown(number, "abcdefgh", parameters, value, LOOKS[number % len(LOOKS)]))
    found.append(Shown(count, "abcdefgh", found[0].parameters, 0.5, LOOKS[0]))
    return picture("title", "loss", goal, found, space)


def test_what_is_the_same_has_no_axis() -> None:
    shown = made(60)
    assert [axis.name for axis in shown.axes] == ["lr", "optimizer", "beta", "batch", "layers", "bias"]
    assert [axis.name for axis in shown.axes if axis.gaps] == ["beta"]
    assert shown.same == {"epochs": 5} and shown.omitted == 0
    one = picture("title", "loss", "minimize", shown.trials[-1:], SPACE)
    assert "lr" in {axis.name for axis in one.axes}, "but where all are the same, all of the space have"
    wide = made(9, {f"p{n}": uniform(0, 1) for n in range(MOST_PARAMETERS + 7)})
    assert (len(wide.axes), wide.omitted) == (MOST_PARAMETERS, 7)


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(made(1), id="one"),
        pytest.param(made(40), id="all-looks"),
        pytest.param(made(40, goal="maximize"), id="maximize"),
        pytest.param(made(2000), id="many"),
        pytest.param(made(12, {"x": uniform(0, 1)}), id="one-parameter"),
        pytest.param(made(12, WIDE), id="wide"),
        pytest.param(made(12, {"x": choice("雪", "$\\x$", "a\nb")}), id="odd-words"),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_it_is_drawn(shown: Picture, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="no matplotlib")
    from hpcrun.sweeps.plots import draw

    draw(shown, tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert data.startswith(b"\x89PNG") and len(data) > 20_000


def words_of(svg: str) -> list[str]:
    """The texts in a picture: matplotlib draws each as curves, behind a comment that says what they mean."""
    return re.findall(r"<!-- (.*?) -->", svg)


@pytest.mark.slow
def test_what_is_written_in_it(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="no matplotlib")
    from hpcrun.sweeps.plots import draw

    shown = made(40)
    draw(shown, tmp_path / "a.svg")
    words = words_of((tmp_path / "a.svg").read_text())
    best = shown.best
    assert {"title", f"★ trial {best.number} (abcdefgh)", f"loss {best.value:.7g}"} <= {*words}
    assert {*LOOKS, "Failed, without a value", "the best so far"} <= {*words}
    assert {"trials, in the order in which they ended", "in all trials", "epochs = 5"} <= {*words}
    # On its axis of parallel coordinates, and below its diagram.
    for name in ("lr (log)", "optimizer", "beta", "batch", "layers", "bias", "not set", "sgd", "128", "True"):
        assert words.count(name) == 2, name
    # At the curve, its own axis, the bar of colours, and each row of diagrams.
    assert words.count("loss") == 5
    far = metric_scale([*(float(n) for n in range(20)), 1e9], "minimize").high
    trials = [Shown(n, "a", {"x": n}, 1e9 if n == 20 else n, LOOKS[0]) for n in range(21)]
    draw(picture("t", "loss", "minimize", trials, {"x": randint(21)}), tmp_path / "b.svg")
    assert f"at the edge: 1 above {far:g}" in words_of((tmp_path / "b.svg").read_text())
    draw(made(3000), tmp_path / "c.svg")
    assert any(
        re.fullmatch(r"1500 of 2\d\d\d trials: .*", w) for w in words_of((tmp_path / "c.svg").read_text())
    )


def test_the_order_is_that_of_the_ends() -> None:
    def trial(number: int, state: RunState, ended: str | None, reason: str = "") -> Trial:
        return Trial(number, "a_b", state, reason, {}, (), None, ended)

    trials = [
        trial(0, RunState.RUNNING, None),
        trial(1, RunState.COMPLETED, "2026-01-01T00:00:02Z"),
        trial(2, RunState.CANCELED, "2026-01-01T00:00:01Z", "StoppedEarly"),
        trial(3, RunState.QUEUED, None),
        trial(4, RunState.FAILED, "2026-01-01T00:00:02Z"),
        trial(5, RunState.CANCELED, None),
    ]
    assert [each.number for each in in_order(trials)] == [5, 2, 1, 4, 0, 3]
    looks = ["not ended", "Completed", "stopped early", "not ended", "Failed", "Canceled"]
    assert [look_of(each) for each in trials] == looks and set(looks) == set(LOOKS)


TRAIN = """\
import argparse
from hpcrun import Run

parser = argparse.ArgumentParser()
parser.add_argument("--x", type=float)
x = parser.parse_args().x
run = Run.get_context()
if x < 0:
    raise SystemExit(3)
run.log("loss", float("inf") if x == 7 else float("nan") if x == 8 else x)
"""


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.chdir(tmp_path)
    with workspace(tmp_path) as ws:
        yield ws


def ended(ws: Workspace, *values: float, metric: str = "loss", **more: Any) -> HyperDriveRun:
    src = source(ws.folder / "src", train_py=TRAIN)
    sweep = HyperDriveConfig(
        run_config=ScriptRunConfig(str(src), "train.py"),
        hyperparameter_sampling=GridParameterSampling({"x": choice(*values)}),
        primary_metric_name=metric,
        primary_metric_goal=PrimaryMetricGoal.MINIMIZE,
        policy=NoTerminationPolicy(),
        give_up_after=None,
        **more,
    )
    run = Experiment(ws, "exp").submit(sweep, display_name="grid")
    assert isinstance(run, HyperDriveRun)
    run.wait_for_completion(raise_on_error=False)
    return run


@pytest.mark.slow
def test_the_command_and_the_call(ws: Workspace) -> None:
    pytest.importorskip("matplotlib", reason="no matplotlib")
    run = ended(ws, -1, 2, 3, 7, 8)
    assert typed("sweep", "status", "grid", "--plot", "a.svg") == "a.svg\n"
    words = Path("a.svg").read_text()
    assert ET.fromstring(words).tag.endswith("svg")
    for args in (("grid", "--plot"), ("--plot", "grid"), ("--no-refresh", "--plot", "grid")):
        assert typed("sweep", "status", *args) == f"{run.id}.png\n"
        assert Path(f"{run.id}.png").read_bytes().startswith(b"\x89PNG")
        Path(f"{run.id}.png").unlink()
    told = document("sweep", "status", "grid", "--plot", "b.pdf")
    assert told["id"] == run.id and Path("b.pdf").read_bytes().startswith(b"%PDF")
    assert run.plot() == Path(f"{run.id}.png") and Path(f"{run.id}.png").stat().st_size > 20_000
    assert run.plot("c.png") == Path("c.png") and Path("c.png").is_file()

    assert "PNG, SVG or PDF" in refused("sweep", "status", "grid", "--plot", "a.jpg", code=2)
    assert "no folder" in refused("sweep", "status", "grid", "--plot", "nowhere/a.png", code=2)
    Path("dir.png").mkdir()
    assert "is a folder" in refused("sweep", "status", "grid", "--plot", "dir.png", code=2)
    assert "--watch does not go with --plot" in refused(
        "sweep", "status", "grid", "--watch", "--plot", code=2
    )
    with pytest.raises(UsageError, match="there is no folder"):
        run.plot("nowhere/a.png")
    assert json.loads(typed("ls", "--json"))["runs"][0]["id"] == run.id, "and nothing was submitted"


@pytest.mark.slow
def test_the_best_of_earlier_sweeps(ws: Workspace) -> None:
    pytest.importorskip("matplotlib", reason="no matplotlib")
    first = ended(ws, 1, 2, 7)
    assert "the best of earlier sweeps" not in words_of(first.plot("a.svg").read_text())
    second = ended(ws, 1, 2, 7, 3, 4, resume_from=[first.id])
    words = words_of(second.plot("b.svg").read_text())
    assert "the best of earlier sweeps" in words and "loss 3" in words
    assert "1" in words, "which is on the metric's axis"


@pytest.mark.slow
def test_where_there_is_nothing_to_draw(ws: Workspace) -> None:
    pytest.importorskip("matplotlib", reason="no matplotlib")
    run = ended(ws, -1, 7, 8)
    said = refused("sweep", "status", "grid", "--plot", code=4)
    assert f"nothing to draw of {run.id}: no trial has reported loss as a number" in said
    assert "hpcrun ls --parent" in said
    with pytest.raises(NotFoundError):
        run.plot()
    assert not Path(f"{run.id}.png").exists()


@pytest.mark.slow
def test_another_metric_was_reported(ws: Workspace) -> None:
    """A sweep that asks for a metric that nobody reports ends well, and says so wherever it is looked at."""
    run = ended(ws, 1, 2, metric="lossy")
    words = "no trial has reported lossy, but loss"
    assert run.status == "Completed"
    assert typed("sweep", "best", "grid") == f"{words}\n"
    assert f"\n\n{words}\n" in typed("sweep", "status", "grid")
    assert f"  {words}\n" in typed("wait", "grid")
    assert words in refused("sweep", "status", "grid", "--plot", code=4)


@pytest.mark.slow
def test_without_matplotlib(ws: Workspace, tmp_path: Path) -> None:
    ended(ws, 1)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "sitecustomize.py").write_text("import sys; sys.modules['matplotlib'] = None\n")
    started = program(
        "sweep",
        "status",
        "grid",
        "--plot",
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path / "bare")},
    )
    _, said = started.communicate(timeout=60)
    assert started.returncode == 1
    assert "pip install 'hpcrun-toolkit[plot]'" in said and "Traceback" not in said


def test_is_a_number() -> None:
    assert [is_number(each) for each in (1, 1.5, True, "1", None, math.inf)] == [True, True, *[False] * 4]
