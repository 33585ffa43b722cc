"""Where a site's runs lie, in the words of the shell there."""

from __future__ import annotations

import re

from hpcrun.quoting import ShellText, ShellWord

VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")


def root_text(root: str) -> str:
    """Shell source that sets ``root`` to what a site's root is there; exit code 97 where a variable is not
    set."""
    parts: list[ShellText | ShellWord | int] = []
    checks = []
    if root == "~" or root.startswith("~/"):
        parts.append(ShellText('"$HOME"'))
        root = root[1:]
    at = 0
    for match in VARIABLE.finditer(root):
        name = ShellText.trusted(match[1] or match[2])
        if match.start() > at:
            parts.append(ShellWord(root[at : match.start()]))
        parts.append(ShellText('"${}"', name))
        checks.append(ShellText('[ -n "${{{}-}}" ] || {{ echo {}; exit 97; }}\n', name, name))
        at = match.end()
    if root[at:]:
        parts.append(ShellWord(root[at:]))
    return f"{ShellText.join('', list(checks))}root={ShellText.join('', parts)}\n"
