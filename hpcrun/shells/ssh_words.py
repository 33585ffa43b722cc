"""What ssh says when it does not get in, in words for people: what is the matter, and what to do."""

from __future__ import annotations

import re

from hpcrun.errors import LoginRequired, UnreachableError

_CHANGED = re.compile(r"Host key for (.+) has changed and you have requested strict checking")
_SENT = re.compile(r"The fingerprint for the (\S+) key sent by the remote host is\s+(\S+?)\.?\s")
_OFFENDING = re.compile(r"^Offending (?:\S+ )?key in (.+):(\d+)", re.MULTILINE)
_UNKNOWN = re.compile(r"No (\S+) host key is known for (.+) and you have requested strict checking")
_SHOWN = re.compile(r"Server host key: (\S+) (\S+)")
_DENIED = re.compile(r"(?:(\S+): )?Permission denied \(([^)]*)\)")
_TYPED = {"password", "keyboard-interactive"}
"""Ways to authenticate in which somebody types something."""
_NO_WAY = ("timed out", "Connection refused", "No route to host", "Network is unreachable")
_TURNED_AWAY = re.compile(
    r"(kex|ssh)_exchange_identification: (read: )?"
    r"(Connection (closed by remote host|reset by peer)|Not allowed at this time|.*MaxStartups)"
)


def turned_away(words: str) -> bool:
    """Whether the host closed the door before a word was said, as one does that has too many guests.

    Through a jump host or a ProxyCommand every failure ends with such a line: there it means nothing.
    """
    return _TURNED_AWAY.search(words) is not None and "UNKNOWN port" not in words


def key_is_unknown(words: str) -> bool:
    return _UNKNOWN.search(words) is not None


def fingerprint(words: str) -> str:
    """The key that the host showed last, from what ``ssh -v`` says; empty where it says nothing of it."""
    found = _SHOWN.findall(words)
    return " ".join(found[-1]) if found else ""


def trouble(words: str, site: str, host: str, shown: str = "") -> UnreachableError:
    """The error for what ssh said. ``shown`` is the fingerprint of an unknown host's key."""
    return (
        _changed_key(words, site)
        or _unknown_key(words, site, shown)
        or _refused(words, site, host)
        or _no_way(words, site, host)
    )


def _changed_key(words: str, site: str) -> UnreachableError | None:
    changed = _CHANGED.search(words)
    if changed is None:
        return None
    name, sent, known = changed[1], _SENT.search(words), _OFFENDING.search(words)
    message = f"the host key of {name} has changed"
    if sent is not None:
        message += f": it now shows {sent[1]} {sent[2]}"
    where = ""
    if known is not None:
        message += f", which is not the key in {known[1]}, line {known[2]}"
        where = f" -f {_word(known[1])}"
    hint = (
        "Perhaps the site has new keys, perhaps somebody is in between. Nothing was sent. Ask the site's "
        f"support for its fingerprint, or look at its web page.\nOnly if it is this one: "
        f"ssh-keygen{where} -R {_word(name)} && hpcrun login {site}"
    )
    return UnreachableError(message, hint=hint)


def _unknown_key(words: str, site: str, shown: str) -> UnreachableError | None:
    unknown = _UNKNOWN.search(words)
    if unknown is None:
        return None
    shows = f"; it shows {shown}" if shown else f" ({unknown[1]})"
    hint = (
        "Compare the fingerprint with the one on the site's web page. "
        f"hpcrun login {site} shows it, asks you, and remembers it."
    )
    return UnreachableError(f"the host key of {unknown[2]} is not known here{shows}", hint=hint)


def _refused(words: str, site: str, host: str) -> UnreachableError | None:
    if "Too many authentication failures" in words:
        return UnreachableError(
            f"{host} refused the login: too many keys were tried",
            hint=f"In your ssh configuration, name the key for {host}: IdentityFile, and IdentitiesOnly yes.",
        )
    denied = _DENIED.search(words)
    if denied is None:
        return None
    who, methods = denied[1] or host, {method.strip() for method in denied[2].split(",")}
    if methods & _TYPED:
        return LoginRequired(
            f"{who} asks for something to be typed ({denied[2]})",
            hint=f"Log in once, in a terminal: hpcrun login {site}",
        )
    return UnreachableError(
        f"{who} refused the login: no key of yours was taken ({denied[2]})",
        hint=f"Was the key given to the site, and is it the one that ssh uses (ssh -v {_word(host)})? "
        f"If it has a passphrase: hpcrun login {site}",
    )


def _no_way(words: str, site: str, host: str) -> UnreachableError:
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    said = lines[-1] if lines else "ssh said nothing"
    hint = None
    if "Could not resolve hostname" in words:
        hint = f"Is connection.host of {site} spelled as ssh knows it, and are you on the right network?"
    elif any(each in words for each in _NO_WAY):
        hint = "Are you on the network that the site lets in (VPN)? It may also be down: see its status page."
    elif "UNKNOWN port" in words or said.startswith("kex_exchange_identification"):
        hint = f"See how far it gets: ssh -v {_word(host)}"
    return UnreachableError(f"{host} cannot be reached: {said}", hint=hint)


def _word(text: str) -> str:
    """A word for a command that a person is to type."""
    from hpcrun.quoting import ShellWord

    return str(ShellWord(text))
