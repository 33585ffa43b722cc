"""Every link in every page leads somewhere, anchors included, and every file that is named is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hpcrun.config.reference import anchor
from tests.docs_help import DOCS, ROOT

PAGES = sorted(
    [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("tests/**/README.md"), *ROOT.glob("benchmarks/*.md")]
)
INDEX = ROOT / "README.md"
_FENCE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
# What is named as a place in the repository: `docs/…`, `tests/golden/`, `hpcrun/cli/main.py`.
_PLACE = re.compile(r"`((?:docs|tests|hpcrun|examples|site_configs|templates|benchmarks|\.ci)/[\w./-]*)`")


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """What links may name in a page; of headings that are alike, the first has the plain anchor."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        plain = anchor(re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).replace("`", ""))
        times = found.count(plain)
        found.append(f"{plain}-{times}" if times else plain)
    return set(found)


def wrong_links(page: Path) -> list[str]:
    wrong = []
    for link in ("".join(match) for match in _LINK.findall(prose(page))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, place = link.partition("#")
        there = (page.parent / name).resolve() if name else page
        if not there.exists() or (place and place not in anchors(there)):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert not wrong_links(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_named_is_there(page: Path) -> None:
    # A word in capitals stands for a name of one's own.
    named = [name for name in _PLACE.findall(prose(page)) if not re.search(r"/[A-Z]+/?$", name)]
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_target_of_make_that_is_named_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for named in re.findall(r"(?:`|^ *)make ([a-z -]+)", page.read_text(), re.MULTILINE):
            # `make check test-fast`; what follows two spaces is a remark.
            assert set(named.split("  ")[0].split()) <= targets, (page.name, named)


def test_every_page_can_be_reached_from_the_first() -> None:
    seen: set[Path] = set()
    todo = [INDEX]
    while todo:
        page = todo.pop()
        seen.add(page)
        names = ("".join(match).partition("#")[0] for match in _LINK.findall(prose(page)))
        places = {
            (page.parent / name).resolve() for name in names if name.endswith(".md") and ":" not in name
        }
        todo += [place for place in places if place not in seen]
    assert {page for page in PAGES if page.is_relative_to(DOCS)} <= seen


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text("# One two\n[a](#one-two) [b](#three) [c](b.md) [d](a.md#one-two)\n```\n[e](f.md)\n```\n")
    assert wrong_links(page) == ["#three", "b.md"]
