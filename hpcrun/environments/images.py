"""Images that hpcrun makes, pulled from a registry or built from a definition file, and what is made inside.

Credentials are the user's own affair (``apptainer registry login``, APPTAINER_DOCKER_USERNAME and _PASSWORD):
none is ever part of a recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hpcrun.environments.definition import read_definition
from hpcrun.environments.recipe import Read, Recipe
from hpcrun.environments.venv import venv_recipe
from hpcrun.models.environment import ApptainerSection, Environment
from hpcrun.models.site import Site
from hpcrun.quoting import ShellText, ShellWord, argv_text

# Layers are kept where there is room, and not in the home. Those who share them take turns, since Apptainer
# does not lock them; whoever has waited long does without.
_BEGIN = r"""program=$HPCRUN_APPTAINER cache=${HPCRUN_APPTAINER_CACHE:-${HPCRUN_ENV%/*}/.apptainer}
if ! command -v "$program" >/dev/null 2>&1; then
    echo "ERROR: there is no program $program on $(hostname): set apptainer.executable of the site"
    exit 127
fi
"$program" --version | tee "$HPCRUN_ENV/tool.txt"
[[ $cache != '~'* ]] || cache=$HOME${cache#'~'}
while [[ $cache =~ \$\{?([A-Za-z_][A-Za-z0-9_]*)\}? ]]; do
    variable=${BASH_REMATCH[1]}
    if [ -z "${!variable-}" ]; then
        echo "ERROR: $variable, which apptainer.cache of the site names, is not set on $(hostname)"
        exit 1
    fi
    cache=${cache/"${BASH_REMATCH[0]}"/"${!variable}"}
done
mkdir -p -- "$cache/tmp"
export APPTAINER_CACHEDIR=$cache APPTAINER_TMPDIR=${APPTAINER_TMPDIR:-$cache/tmp}
export SINGULARITY_CACHEDIR=$cache SINGULARITY_TMPDIR=${SINGULARITY_TMPDIR:-$APPTAINER_TMPDIR}
exec {turn}>>"$cache/lock"
flock -w 60 "$turn" 2>/dev/null || export APPTAINER_DISABLE_CACHE=true SINGULARITY_DISABLE_CACHE=true
"""

# Which content a name stands for is told to debuggers alone; what else they are told is left out.
_TOLD = r"""from_registry() {
    local line failed=
    while IFS= read -r line; do
        if ! [[ $line =~ ^([A-Z]+)' '+\[U=[0-9]+,P=[0-9]+\]' '+[^' ']+' '+(.*)$ ]]; then
            [ -z "$failed" ] || printf '%s\n' "$line"
            continue
        fi
        case ${BASH_REMATCH[1]} in
            DEBUG | VERBOSE)
                line=${BASH_REMATCH[2]}
                [[ $line =~ 'source image digest for '.*' is '(sha256:)?([0-9a-f]{64})$ ]] || continue
                printf '%s\n' "${BASH_REMATCH[2]}" >digest
                continue
                ;;
            ERROR | FATAL) failed=1 ;;
        esac
        printf '%s: %s\n' "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
    done
}
"""
_PULL = '"$program" {} "$HPCRUN_ENV/image.sif" {} 2>&1 </dev/null{}\n'

_BUILD = """if ! "$program" build {} "$HPCRUN_ENV/image.sif" {} 2>&1 </dev/null | tee said; then
    last=$(grep -vE '^(INFO|WARNING|FATAL):' said | tail -n 1 | cut -c 1-300 || true)
    [ -z "$last" ] || printf 'ERROR: before that, it said: %s\\n' "$last"
    if grep -qiE 'fakeroot|subuid|user namespace|must be root|operation not permitted' said; then
        printf '%s\\n' "ERROR: $(hostname) does not let you build images {}: set apptainer.fakeroot: {} \\
of the site, or build the image elsewhere and name the SIF file as environment.apptainer.image"
    fi
    exit 1
fi
"""

_DIGEST = "[ ! -s digest ] || printf '%s@sha256:%s\\n' {} \"$(cat digest)\"\n"
# The image's Python makes it, below a path that is the same inside and outside.
_INSIDE = """export PYTHONNOUSERSITE=1
if ! "$program" --quiet exec --bind "$HPCRUN_ENV" --pwd "$PWD" {} {} \\
    bash inside.sh 2>&1 </dev/null | tee said; then
    ! grep -q 'bash.*not found' said || echo "ERROR: the image has no bash, and the venv is made by it"
    exit 1
fi
"""

_SIF = ShellText.trusted('"$HPCRUN_ENV/image.sif"')


def container_recipe(environment: Environment, read: Read, site: Site) -> Recipe | None:
    """How a container's image is made, and the virtual environment in it; None where all is there already.

    Raises ConfigError.
    """
    section = environment.apptainer
    assert section is not None
    image = _image(section, read, site)
    if environment.venv is None:
        return image
    return _with_venv(section, image, venv_recipe(environment, read, site), site)


def _image(section: ApptainerSection, read: Read, site: Site) -> Recipe | None:
    if not section.made:
        return None
    if section.image is not None:
        return _recipe(f"image of {section.image}", _pull(section.image), _source(section.image), {}, site)
    assert section.definition is not None
    definition = read_definition(section.definition, read)
    bases = [_content(ShellWord(base), ShellWord(base)) for base in definition.bases]
    return _recipe(
        f"image of {section.definition}",
        _build(definition.name, site),
        ShellText.join("", [*bases, _content(ShellWord("sif"), _SIF)]),
        definition.files,
        site,
    )


def _recipe(title: str, make: ShellText, record: ShellText, files: Mapping[str, bytes], site: Site) -> Recipe:
    begin, end = ShellText.trusted(_BEGIN), ShellText.trusted("exec {turn}>&-\n")
    return Recipe(
        "apptainer",
        title,
        ShellText("{}{}{}", begin, make, end),
        record,
        files,
        variables={
            "HPCRUN_APPTAINER": site.apptainer.executable,
            "HPCRUN_APPTAINER_CACHE": site.apptainer.cache or "",
        },
    )


def _with_venv(section: ApptainerSection, image: Recipe | None, venv: Recipe, site: Site) -> Recipe:
    """One recipe that makes both: a virtual environment is of no use without the image it was made in."""
    named = _SIF if image is not None else ShellWord(section.image or "")
    binds = [word for bind in [*site.apptainer.binds, *section.binds] for word in ("--bind", bind)]
    inside = ShellText(_INSIDE, argv_text(binds), named)
    made = image or _recipe(
        f"image {section.image}", ShellText(""), _content(ShellWord(section.image or ""), named), {}, site
    )
    script = f'set -euo pipefail\n{venv.build}\n{{\n{venv.record}\n}} >"$HPCRUN_ENV/inside.txt"\n'
    return replace(
        made,
        title=f"{venv.title} in the {made.title}",
        build=ShellText("{}{}", made.build, inside),
        record=ShellText("{{\n{}}} | sed 's/^/# /'\ncat -- \"$HPCRUN_ENV/inside.txt\"\n", made.record),
        files={**made.files, **venv.files, "inside.sh": script.encode()},
        aids={**made.aids, **venv.aids},
        variables={**made.variables, **venv.variables},
    )


def _pull(uri: str) -> ShellText:
    if not uri.startswith("docker://"):
        return ShellText(_PULL, argv_text(["pull"]), ShellWord(uri), ShellText(""))
    told = ShellText.trusted(" | from_registry")
    pull = ShellText(_PULL, argv_text(["--debug", "pull"]), ShellWord(uri), told)
    return ShellText("{}{}", ShellText.trusted(_TOLD), pull)


def _source(uri: str) -> ShellText:
    """Prints what an image was pulled from, by its digest where that is told."""
    if uri.startswith("docker://"):
        source = ShellText(_DIGEST, ShellWord(untagged(uri)))
    else:
        source = ShellText("printf '%s\\n' {}\n", ShellWord(uri))
    return ShellText("{}{}", source, _content(ShellWord("sif"), _SIF))


def locked(packages: str) -> str | None:
    """What of ``packages.txt`` makes the very same again, as a part of run.yaml or a requirements file; None
    for an image that nothing but its own file can give: built from a definition, or known by no digest."""
    first = packages.split("\n", 1)[0]
    if first.startswith("# "):  # an image with a virtual environment inside
        return packages
    return f"apptainer:\n  image: {first}\n" if "@sha256:" in first else None


def _content(name: ShellWord, file: ShellWord | ShellText) -> ShellText:
    return ShellText("printf '%s sha256:%s\\n' {} \"$(sha256sum <{} | cut -d ' ' -f 1)\"\n", name, file)


def _build(definition: str, site: Site) -> ShellText:
    fakeroot = site.apptainer.fakeroot
    how, other = ("with fakeroot", "false") if fakeroot else ("without fakeroot", "true")
    return ShellText(
        _BUILD,
        argv_text(["--fakeroot"] if fakeroot else []),
        ShellWord(f"./{definition}" if definition.startswith("-") else definition),
        ShellText.trusted(how),
        ShellText.trusted(other),
    )


def untagged(uri: str) -> str:
    """An image's name in a registry without its tag or digest."""
    name = uri.split("@sha256:")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.split(':')[0]}"
