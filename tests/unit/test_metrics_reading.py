"""Metrics are read as they were written, whatever became of the writer."""

from __future__ import annotations

import math
from pathlib import Path

from hpcrun.metrics.reading import Point, file_of, rank_files, read_new, read_points


def written(folder: Path, text: str, rank: int = 0) -> Path:
    path = file_of(folder, rank)
    path.write_text(text)
    return path


def test_a_line_is_a_point(tmp_path: Path) -> None:
    written(tmp_path, '{"n": "loss", "v": 0.25, "s": 10, "t": 5.5}\n{"n": "on", "v": true, "t": 6, "a": 2}\n')
    assert [*read_points(tmp_path)] == [
        Point("loss", 0.25, 5.5, 10, "scalar", 0, 1),
        Point("on", True, 6.0, None, "scalar", 0, 2),
    ]


def test_what_json_has_no_word_for_is_kept(tmp_path: Path) -> None:
    lines = [f'{{"n": "x", "v": {word}, "t": 1}}\n' for word in ("NaN", "Infinity", "-Infinity")]
    written(tmp_path, "".join(lines))
    first, second, third = [point.value for point in read_points(tmp_path)]
    assert math.isnan(first)
    assert (second, third) == (math.inf, -math.inf)


def test_lines_that_are_none_are_passed_over(tmp_path: Path) -> None:
    whole = '{"n": "x", "v": 1, "t": 1}\n'
    broken = ['{"n": "x", "v"', "7", '{"n": 1, "v": 1, "t": 1}', '{"n": "x", "v": 1, "t": 1, "k": "no"}']
    broken += ['{"n": "x", "v": 1, "t": 1, "s": "ten"}', '{"n": "x", "v": 1}', "[" * 100_000, "\x00\xff"]
    written(tmp_path, whole + "".join(f"{line}\n" for line in broken) + whole)
    assert [point.value for point in read_points(tmp_path)] == [1, 1]


def test_a_line_without_an_end_is_left_for_the_next_look(tmp_path: Path) -> None:
    path = written(tmp_path, '{"n": "x", "v": 1, "t": 1}\n{"n": "x", "v": 2')
    points, offset = read_new(path, 0)
    assert [point.value for point in points] == [1]
    with path.open("a") as file:
        file.write(', "t": 2}\n')
    points, end = read_new(path, 0, offset)
    assert [point.value for point in points] == [2]
    assert read_new(path, 0, end) == ([], path.stat().st_size)


def test_a_file_written_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = written(tmp_path, '{"n": "x", "v": 1, "t": 1}\n' * 3)
    _, offset = read_new(path, 0)
    written(tmp_path, '{"n": "x", "v": 7, "t": 1}\n')
    assert [point.value for point in read_new(path, 0, offset)[0]] == [7]


def test_ranks_have_their_files(tmp_path: Path) -> None:
    for rank in (11, 0, 1000):
        written(tmp_path, f'{{"n": "r", "v": {rank}, "t": 1}}\n', rank)
    (tmp_path / "notes.txt").write_text("no metrics")
    assert {*rank_files(tmp_path)} == {0, 11, 1000}
    assert [point.value for point in read_points(tmp_path, rank=11)] == [11]
    assert [*read_points(tmp_path / "gone")] == []
