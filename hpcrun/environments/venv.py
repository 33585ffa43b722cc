"""A virtual environment, made by uv where there is one, else by venv and pip.

Of a project, what it depends on is installed, and not the project itself: its code is the run's snapshot,
and a change to it makes no other environment.
"""

from __future__ import annotations

import posixpath
import re

from hpcrun.environments.base import Setting
from hpcrun.environments.recipe import Read, Recipe, reader
from hpcrun.errors import ConfigError, Problem
from hpcrun.models.environment import Environment, VenvSection
from hpcrun.models.site import Site
from hpcrun.quoting import ShellText, ShellWord, argv_text

_NESTED = re.compile(r"(-r|--requirement|-c|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(\S+)\s*\Z")
_EDITABLE = re.compile(r"(-e|--editable)\b")
_LOCAL = re.compile(r"([./~]|file:)|\S+\s*@\s*(file:|[./~])|[^\s;@]+\.(whl|tar\.gz|zip)(\s|;|\Z)")
_DEEPEST = 50

_CHOOSE = r"""python={}
if ! command -v "$python" >/dev/null 2>&1; then
    echo "ERROR: there is no $python on $(hostname)"
    exit 1
fi
"$python" --version
uv=$(command -v uv || true)
[ -z "$uv" ] || "$uv" --version | tee "$HPCRUN_ENV/tool.txt"
prefix=$HPCRUN_ENV/prefix
make_venv() {{
    if [ -n "$uv" ]; then
        "$uv" venv --quiet --python "$(command -v "$python")" "$prefix"
    else
        "$python" -m venv "$prefix"
        "$prefix/bin/python" -m pip --version | cut -d ' ' -f 1,2 >"$HPCRUN_ENV/tool.txt"
    fi
}}
install() {{
    if [ -n "$uv" ]; then
        "$uv" pip install --python "$prefix/bin/python" "$@"
        return
    fi
    # What was taken, with its hashes, where pip is new enough to tell (22.2).
    if "$prefix/bin/python" -m pip install --help | grep -q -e ' --report '; then
        set -- --report "$HPCRUN_ENV/report.json" "$@"
    fi
    "$prefix/bin/python" -m pip --disable-pip-version-check --no-input install --progress-bar off "$@"
}}
"""

_LOCKED = r"""if [ -z "$uv" ]; then
    echo "ERROR: this project has a uv.lock, and there is no uv on $(hostname)"
    exit 1
fi
export UV_PROJECT_ENVIRONMENT="$prefix"
"$uv" sync --frozen --no-install-project --no-dev --python "$(command -v "$python")" {}
"""

_PROJECT = r"""make_venv
if [ -n "$uv" ]; then
    install {} -r pyproject.toml
else
    "$prefix/bin/python" - >dependencies.txt <<'END'
try:
    import tomllib
except ImportError:
    from pip._vendor import tomli as tomllib
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file).get("project", {{}})
if "dependencies" in project.get("dynamic", []):
    raise SystemExit("ERROR: pyproject.toml has dynamic dependencies: list them, or use a requirements file")
print("\n".join(project.get("dependencies", [])))
END
    install {} -r dependencies.txt
fi
"""

# And lock.txt, the same with hashes, where they can be told: what pip and uv make the very same from.
_RECORD = r"""if [ -n "$uv" ]; then
    "$uv" pip freeze --python "$prefix/bin/python" | tee frozen.txt
    "$uv" pip compile --quiet --no-header --no-annotate --generate-hashes --no-deps \
        --python "$prefix/bin/python" {} frozen.txt >"$HPCRUN_ENV/lock.txt" || rm -f -- "$HPCRUN_ENV/lock.txt"
else
    "$prefix/bin/python" -m pip --disable-pip-version-check freeze --all
    [ ! -e "$HPCRUN_ENV/report.json" ] || "$prefix/bin/python" - <<'END' || rm -f -- "$HPCRUN_ENV/lock.txt"
import json, os
folder = os.environ["HPCRUN_ENV"]
with open(f"{{folder}}/report.json", encoding="utf-8") as file:
    installed = json.load(file)["install"]
lines = []
for each in installed:
    hashes = each["download_info"]["archive_info"]["hashes"]
    named = " ".join(f"--hash={{kind}}:{{value}}" for kind, value in sorted(hashes.items()))
    lines.append(f"{{each['metadata']['name']}}=={{each['metadata']['version']}} {{named}}\n")
with open(f"{{folder}}/lock.txt", "w", encoding="utf-8") as file:
    file.writelines(sorted(lines))
END
fi"""


def venv_recipe(environment: Environment, read: Read, site: Site) -> Recipe:
    """What makes the virtual environment. Raises ConfigError."""
    section = environment.venv
    assert section is not None
    options = argv_text(list(section.pip_options))
    files: dict[str, bytes] = {}
    if section.project is not None:
        title, steps = f"venv of {section.project}", _project(section, read, files, options)
    elif section.requirements is not None:
        get = reader(read, "environment.venv.requirements")
        files.update(_Requirements(get).gather(section.requirements))
        title = f"venv of {section.requirements}"
        steps = ShellText("make_venv\ninstall {} -r requirements.txt\n", options)
    elif section.packages:
        files["requirements.txt"] = "".join(f"{p}\n" for p in section.packages).encode()
        title = f"venv of {', '.join(section.packages)}"
        steps = ShellText("make_venv\ninstall {} -r requirements.txt\n", options)
    else:
        title, steps = "empty venv", ShellText("make_venv\n")
    choose = ShellText(_CHOOSE, ShellWord(section.python or "python3"))
    return Recipe("venv", title, ShellText("{}{}", choose, steps), ShellText(_RECORD, options), files)


def _project(section: VenvSection, read: Read, files: dict[str, bytes], options: ShellText) -> ShellText:
    folder = section.project or "."
    get = reader(read, "environment.venv.project")
    files["pyproject.toml"] = get(posixpath.join(folder, "pyproject.toml"))
    try:
        files["uv.lock"] = read(posixpath.join(folder, "uv.lock"))
    except OSError:
        return ShellText(_PROJECT, options, options)
    return ShellText(_LOCKED, options)


class _Requirements:
    """A requirements file and those that it names, under names of their own, side by side."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._names: dict[str, str] = {}
        self._files: dict[str, bytes] = {}

    def gather(self, path: str) -> dict[str, bytes]:
        self._take(path, path)
        return self._files

    def _take(self, path: str, said: str) -> str:
        path = posixpath.normpath(path)
        if path in self._names:
            return self._names[path]
        if len(self._names) >= _DEEPEST:
            raise _problem(f"{said} names more than {_DEEPEST} other files")
        count = len(self._names)
        name = self._names[path] = f"requirements-{count}.txt" if count else "requirements.txt"
        text = self._read(path).decode("utf-8", "surrogateescape")
        lines = [self._line(raw, path, number) for number, raw in enumerate(text.splitlines(), 1)]
        self._files[name] = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
        return name

    def _line(self, raw: str, path: str, number: int) -> str:
        line = re.sub(r"(^|\s)#.*", "", raw).strip()
        nested = _NESTED.match(line)
        if nested and "://" not in nested[2]:
            return f"{nested[1]} {self._take(posixpath.join(posixpath.dirname(path), nested[2]), nested[2])}"
        if _EDITABLE.match(line) or _LOCAL.match(line):
            raise _problem(
                f"{path}:{number}: {line} is a path here, and the environment is made on the target",
                "Code of your own comes with the snapshot: put it into the source directory, and its folder "
                "on PYTHONPATH. Or use venv.project, or a package that --find-links or an index has.",
            )
        return line


def _problem(message: str, hint: str = "") -> ConfigError:
    return ConfigError([Problem(message, path="environment.venv.requirements", hint=hint)])


class VenvEnvironment:
    def __init__(self, environment: Environment, setting: Setting) -> None:
        self._python = environment.python.interpreter_path or "python"

    def activate(self) -> ShellText:
        return ShellText("hpcrun_activate_venv")

    def wrap(self) -> ShellText:
        return ShellText("exec")

    def python(self) -> ShellWord:
        return ShellWord(self._python)
