# shellcheck shell=bash
# Makes a conda environment in $HPCRUN_ENV/prefix. Sourced, under set -euo pipefail, in a folder that holds
# what it is to be made of, one item a line: channels.txt, specs.txt or explicit.txt, pip.txt, pip-options.txt.

hpcrun_conda_prefix=$HPCRUN_ENV/prefix
# Beside the environments: packages are linked from here, which needs one file system, and not the home's quota.
hpcrun_conda_cache=${HPCRUN_ENV%/*}/.cache

hpcrun_conda_fail() {
    printf 'ERROR: %s\n' "$@"
    exit 1
}

# micromamba before mamba before conda: by name on PATH, then where each is likely to lie.
hpcrun_conda_find() {
    local name folder found folders=()
    hpcrun_conda_tool=
    if [ -n "${HPCRUN_CONDA_EXECUTABLE-}" ]; then
        hpcrun_conda_tool=$(type -P -- "$HPCRUN_CONDA_EXECUTABLE") || hpcrun_conda_fail \
            "there is no program $HPCRUN_CONDA_EXECUTABLE on $(hostname)" \
            "conda.executable of site_configs/$HPCRUN_CONDA_SITE.yaml names it"
        return
    fi
    [ -z "${HPCRUN_CONDA_ROOT-}" ] || folders=("$HPCRUN_CONDA_ROOT"/{bin,condabin})
    folders+=("$HOME"/{.local/bin,bin,miniforge3/bin,mambaforge/bin,miniconda3/bin,anaconda3/bin} /opt/conda/bin)
    for name in micromamba mamba conda; do
        if found=$(type -P "$name"); then
            hpcrun_conda_tool=$found
            return
        fi
        for folder in "${folders[@]}"; do
            if [ -x "$folder/$name" ] && ! [ -d "$folder/$name" ]; then
                hpcrun_conda_tool=$folder/$name
                return
            fi
        done
        for found in "${MAMBA_EXE-}" "${CONDA_EXE-}"; do
            if [ -x "$found" ] && [ "${found##*/}" = "$name" ]; then
                hpcrun_conda_tool=$found
                return
            fi
        done
    done
}

# Python with py-rattler: the caller's own, where this is done on its machine or on one that shares its files.
hpcrun_conda_find_rattler() {
    for hpcrun_conda_python in "${HPCRUN_PYTHON-}" python3; do
        if [ -n "$hpcrun_conda_python" ] && "$hpcrun_conda_python" -c 'import rattler' 2>/dev/null; then
            return 0
        fi
    done
    return 1
}

# Whoever waits for this environment makes the prefix on its own machine, for this one, and sends it: see
# hpcrun/engine/bringing.py. Until then the builder lives on, and has the lock.
hpcrun_conda_from_caller() {
    local seconds=0 version
    {
        printf 'machine %s\nlinux %s\n' "$(uname -m)" "$(uname -r)"
        version=$(getconf GNU_LIBC_VERSION 2>/dev/null) && printf 'glibc %s\n' "${version#* }"
        version=$(nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: *\([0-9.]*\).*/\1/p') && printf 'cuda %s\n' "$version"
    } >"$HPCRUN_ENV/wanted.new"
    echo "there is no micromamba, mamba or conda on $(hostname): the caller's py-rattler makes it"
    mv -f -- "$HPCRUN_ENV/wanted.new" "$HPCRUN_ENV/wanted"
    until [ -e "$HPCRUN_ENV/brought" ]; do
        seconds=$((seconds + 1))
        [ "$seconds" -lt 21600 ] || hpcrun_conda_fail "nobody who waits for it has brought it within six hours"
        sleep 1
    done
    rm -f -- "$HPCRUN_ENV/wanted"
    read -r version <"$HPCRUN_ENV/brought"
    [ "$version" != failed ] || exit 1
    hpcrun_conda_made_by "$version, by the caller"
    hpcrun_conda_link_scripts
}

# What the packages want done where they lie, as conda, mamba and micromamba do it.
hpcrun_conda_link_scripts() {
    local name version number
    while read -r name version number; do
        PREFIX=$hpcrun_conda_prefix PKG_NAME=$name PKG_VERSION=$version PKG_BUILDNUM=$number \
            PATH=$hpcrun_conda_prefix/bin:$PATH bash "$hpcrun_conda_prefix/bin/.$name-post-link.sh" </dev/null ||
            hpcrun_conda_fail "the post-link script of $name failed"
    done < <(cat "$hpcrun_conda_prefix/conda-meta/post-link.txt" 2>/dev/null)
    rm -f -- "$hpcrun_conda_prefix/conda-meta/post-link.txt"
}

hpcrun_conda_made_by() {
    printf '%s\n' "$1" | tee "$HPCRUN_ENV/tool.txt"
}

# The options that stand here are spelled the same by all three; what is one's own is asked for by its name.
hpcrun_conda_create() {
    local channels=() specs=() options=() each
    case ${hpcrun_conda_tool##*/} in
        micromamba) export MAMBA_ROOT_PREFIX=$hpcrun_conda_cache/micromamba ;;
        conda) options=(--quiet --no-default-packages) ;;
    esac
    export CONDA_PKGS_DIRS=$hpcrun_conda_cache/conda CONDA_REGISTER_ENVS=false
    export CONDA_NUMBER_CHANNEL_NOTICES=0 CONDA_NOTIFY_OUTDATED_CONDA=false MAMBA_NO_BANNER=1
    each=$("$hpcrun_conda_tool" --version </dev/null)
    each=${each%%$'\n'*} # mamba 1 goes on with conda's
    hpcrun_conda_made_by "${hpcrun_conda_tool##*/} ${each##*[!0-9.a-z]}"
    echo "$hpcrun_conda_tool"
    if [ -e explicit.txt ]; then
        "$hpcrun_conda_tool" create --yes "${options[@]}" --prefix "$hpcrun_conda_prefix" --file explicit.txt </dev/null
        return
    fi
    mapfile -t channels <channels.txt
    mapfile -t specs <specs.txt
    for each in "${channels[@]}"; do
        options+=(--channel "$each")
    done
    "$hpcrun_conda_tool" create --yes "${options[@]}" --prefix "$hpcrun_conda_prefix" \
        --override-channels --strict-channel-priority "${specs[@]}" </dev/null
}

hpcrun_conda_python() { # the prefix's own, or one that can read what lies in it
    type -P -- "$hpcrun_conda_prefix/bin/python3" || type -P -- "$hpcrun_conda_prefix/bin/python" || type -P python3
}

# Packages may be compiled, with what the scripts of others set; they are not written for set -eu.
hpcrun_conda_install_by_pip() (
    local options=() script
    mapfile -t options < <(cat pip-options.txt 2>/dev/null)
    export CONDA_PREFIX=$hpcrun_conda_prefix PATH=$hpcrun_conda_prefix/bin:$PATH
    set +eu
    for script in "$hpcrun_conda_prefix"/etc/conda/activate.d/*.sh; do
        # shellcheck disable=SC1090
        [ -r "$script" ] && . "$script"
    done
    set -eu
    echo "pip install, by $hpcrun_conda_prefix/bin/python"
    exec "$hpcrun_conda_prefix/bin/python" -m pip install --no-input --disable-pip-version-check \
        --progress-bar off "${options[@]}" --requirement pip.txt </dev/null
)

hpcrun_conda_verify() {
    local said
    compgen -G "$hpcrun_conda_prefix/conda-meta/*.json" >/dev/null ||
        hpcrun_conda_fail "nothing was installed in $hpcrun_conda_prefix"
    if [ -e "$hpcrun_conda_prefix/bin/python" ]; then
        said=$("$hpcrun_conda_prefix/bin/python" -I -c 'import sys; print(sys.prefix)') ||
            hpcrun_conda_fail "the python that was installed does not run"
        [ "$said" -ef "$hpcrun_conda_prefix" ] ||
            hpcrun_conda_fail "the python that was installed believes that it lies in $said"
    fi
}

hpcrun_conda_make() {
    # People's own settings are for their own environments; mirrors of theirs hold.
    unset PYTHONHOME PYTHONPATH PIP_REQUIRE_VIRTUALENV PIP_TARGET PIP_PREFIX
    export PYTHONNOUSERSITE=1 PIP_USER=0 PIP_CACHE_DIR=$hpcrun_conda_cache/pip
    mkdir -p "$hpcrun_conda_cache"
    while IFS= read -r hpcrun_conda_line; do
        # shellcheck disable=SC2163
        export "$hpcrun_conda_line"
    done < <(cat overrides.txt 2>/dev/null)
    hpcrun_conda_find
    if [ -n "${HPCRUN_CONDA_ASK-}" ]; then # it is only asked whether a job could
        [ -n "$hpcrun_conda_tool" ] || hpcrun_conda_find_rattler || exit 3
        exit 0
    fi
    if [ -n "$hpcrun_conda_tool" ]; then
        hpcrun_conda_create
    elif hpcrun_conda_find_rattler; then
        hpcrun_conda_made_by "py-rattler $("$hpcrun_conda_python" -c 'import rattler; print(rattler.__version__)')"
        "$hpcrun_conda_python" conda_rattler.py "$hpcrun_conda_prefix" "$hpcrun_conda_cache/rattler" </dev/null
    elif [ -n "${HPCRUN_CONDA_CALLER-}" ] && [ -z "${SLURM_JOB_ID-}" ]; then # no allocation waits for a laptop
        hpcrun_conda_from_caller
    else
        hpcrun_conda_fail "there is no micromamba, mamba or conda on $(hostname), and no Python with py-rattler" \
            "micromamba is one file: put it on the PATH there, or name it in conda.executable of site_configs/$HPCRUN_CONDA_SITE.yaml" \
            "or, where hpcrun itself runs: pip install 'hpcrun-toolkit[conda]'"
    fi
    hpcrun_conda_verify
    if [ -e pip.txt ]; then
        hpcrun_conda_install_by_pip
    fi
    # conda takes a folder with this file for an environment, and py-rattler writes none.
    [ -e "$hpcrun_conda_prefix/conda-meta/history" ] || : >"$hpcrun_conda_prefix/conda-meta/history"
    if [ -e state.json ]; then
        cp state.json "$hpcrun_conda_prefix/conda-meta/state"
    fi
}

hpcrun_conda_record() {
    local python
    python=$(hpcrun_conda_python) || hpcrun_conda_fail "there is no python3 to read conda-meta with"
    { "$hpcrun_conda_prefix/bin/python" -m pip --disable-pip-version-check freeze --all 2>/dev/null || :; } |
        "$python" -I conda_record.py "$hpcrun_conda_prefix"
}
