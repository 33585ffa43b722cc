"""A remote's address as it is recorded: no password, no token, no query."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.provenance import without_credentials


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org/a/b.git", "https://example.org/a/b.git"),
        ("https://user:token@example.org/a", "https://example.org/a"),
        ("https://ghp_token@example.org:8443/a", "https://example.org:8443/a"),
        ("https://user:pa@ss@example.org/a", "https://example.org/a"),
        ("https://user:pa/ss@example.org/a", "https://example.org/a"),
        ("https://user:pa?s#s@example.org/a", "https://example.org/a"),
        ("https://example.org/a?private_token=x", "https://example.org/a"),
        ("https://example.org/a#token=x@y", "https://example.org/a"),
        ("https://example.org?token=x", "https://example.org"),
        ("https://example.org/@scope/a", "https://example.org/@scope/a"),
        ("https://user:1/SECRET@example.org/a", "https://example.org/a"),
        ("https://[::1]:80/a", "https://[::1]:80/a"),
        ("ssh://git@example.org:22/a", "ssh://git@example.org:22/a"),
        ("ssh://git:token@example.org/a", "ssh://git@example.org/a"),
        ("git@example.org:a/b.git", "git@example.org:a/b.git"),
        ("git:token@example.org:a/b.git", "git@example.org:a/b.git"),
        ("/srv/git/a@b.git", "/srv/git/a@b.git"),
        ("../a", "../a"),
        ("file:///srv/a?b", "file:///srv/a?b"),
        ("ext::sh -c secret% %S", "ext::"),
    ],
)
def test_credentials_are_removed(url: str, shown: str) -> None:
    assert without_credentials(url) == shown
    assert without_credentials(shown) == shown


word = st.text("abcXYZ019-_.~%:@/?#", max_size=8)


@given(scheme=st.sampled_from(["https", "http", "ssh", "ftp"]), before=word, after=word)
def test_no_password_is_ever_shown(scheme: str, before: str, after: str) -> None:
    for secret in (f"{before}SECRET{after}", "SECRET"):
        assert "SECRET" not in without_credentials(f"{scheme}://user:{secret}@example.org/path")
        assert "SECRET" not in without_credentials(f"{scheme}://example.org/path?key={secret}")
