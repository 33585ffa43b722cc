#!/bin/bash
# venv of requirements.txt
# Rendered by hpcrun: makes an environment, once. Called as "build.sh FOLDER", where FOLDER was made for it and
# the lock says so; or without words, as a job of its own.
# shellcheck disable=SC1003,SC2016,SC2329
set -u -o pipefail
umask 077
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV CONDA_PREFIX

root=/scratch/alice/hpcrun/environments
name=venv-8151840ce53196f7
title='venv of requirements.txt'
patience=60
wanted=$root/$name-$(uname -m)
lock=$wanted.lock

say() {
    printf '%s hpcrun: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*"
}
there() {
    [ -e "$wanted/environment.json" ]
}
holds() { # whether this builder has the lock
    [ "$(readlink -- "$lock")" = "${folder##*/}" ]
}
release() {
    ! holds || rm -f -- "$lock"
}
# The builder that has the lock touches its file "beat". One that does not, for a while by our own clock, is
# dead: what it had is taken away from it by a rename, which one of many succeeds in.
acquire() {
    local other beat='' seen='' still=0
    until ln -sn -- "${folder##*/}" "$lock" 2>/dev/null || holds; do
        there && return 1
        other=$(readlink -- "$lock")
        [ -n "$other" ] && [ -e "$root/$other/failed" ] && fail "$(cat "$root/$other/failed")" "it was tried just now, see $root/$other/log.txt"
        beat=$other.$(: <"$root/$other/beat" && stat -c %y -- "$root/$other/beat") 2>/dev/null
        [ "$beat" = "$seen" ] && still=$((still + 1)) || still=0 seen=$beat
        if [ -n "$other" ] && [ $((still * 2)) -gt "$patience" ] && mv -T -- "$lock" "$lock.${folder##*/}"; then
            [ "$(readlink -- "$lock.${folder##*/}")" = "$other" ] || ln -sn -- "$(readlink -- "$lock.${folder##*/}")" "$lock"
            rm -f -- "$lock.${folder##*/}"
        fi
        touch -- "$folder/beat"
        sleep 2
    done
    ! there
}
discard() {
    cd / && rm -rf -- "$folder"
}
# Half an environment is of no use to anybody; its log is.
fail() { # CODE WORDS
    local full=''
    printf '%4096s' '' >"$folder/.full" || full=', and nothing can be written to its disk'
    find "$folder" -mindepth 1 -maxdepth 1 ! -name log.txt ! -name build.sh ! -name beat -exec rm -rf -- {} +
    say "failed: $2$full"
    printf '%s\n' "$1" >"$folder/failed.new" && mv -f -- "$folder/failed.new" "$folder/failed"
    release
    exit "$1"
}
ended() {
    trap '' TERM INT HUP
    kill -s TERM 0
    fail 143 "it was ended by a signal"
}

hpcrun_fail_environment() {
    printf 'ERROR: %s\n' "$*"
    exit 1
}
hpcrun_load_modules() {
    local init
    set +u
    if ! type module >/dev/null 2>&1; then
        for init in "${MODULESHOME-}/init/bash" "${LMOD_PKG-}/init/bash" /etc/profile.d/lmod.sh \
            /etc/profile.d/z00_lmod.sh /etc/profile.d/modules.sh /usr/share/modules/init/bash; do
            # shellcheck disable=SC1090
            [ -r "$init" ] && . "$init" && break
        done
    fi
    type module >/dev/null 2>&1 || hpcrun_fail_environment "there is no module command on $(hostname)"
    for init in "$@"; do
        module load "$init" || hpcrun_fail_environment "module load $init failed on $(hostname)"
    done
    set -u
}
put() { # NAME: a file from what comes on standard input
    mkdir -p -- "$(dirname -- "recipe/$1")" && base64 -d >"recipe/$1"
}
unpack() {
    mkdir -p recipe || return
    put requirements-1.txt <<'HPCRUN_END' || return
c2NpcHkK
HPCRUN_END
    put requirements.txt <<'HPCRUN_END' || return
bnVtcHk8MwotciByZXF1aXJlbWVudHMtMS50eHQK
HPCRUN_END
}
build() {
set +e
hpcrun_load_modules python/3.12
set -e
python=python3.12
if ! command -v "$python" >/dev/null 2>&1; then
    echo "ERROR: there is no $python on $(hostname)"
    exit 1
fi
"$python" --version
uv=$(command -v uv || true)
[ -z "$uv" ] || "$uv" --version | tee "$HPCRUN_ENV/tool.txt"
prefix=$HPCRUN_ENV/prefix
make_venv() {
    if [ -n "$uv" ]; then
        "$uv" venv --quiet --python "$(command -v "$python")" "$prefix"
    else
        "$python" -m venv "$prefix"
        "$prefix/bin/python" -m pip --version | cut -d ' ' -f 1,2 >"$HPCRUN_ENV/tool.txt"
    fi
}
install() {
    if [ -n "$uv" ]; then
        "$uv" pip install --python "$prefix/bin/python" "$@"
        return
    fi
    # What was taken, with its hashes, where pip is new enough to tell (22.2).
    if "$prefix/bin/python" -m pip install --help | grep -q -e ' --report '; then
        set -- --report "$HPCRUN_ENV/report.json" "$@"
    fi
    "$prefix/bin/python" -m pip --disable-pip-version-check --no-input install --progress-bar off "$@"
}
make_venv
install --only-binary=:all: -r requirements.txt

}
record() {
if [ -n "$uv" ]; then
    "$uv" pip freeze --python "$prefix/bin/python" | tee frozen.txt
    "$uv" pip compile --quiet --no-header --no-annotate --generate-hashes --no-deps \
        --python "$prefix/bin/python" --only-binary=:all: frozen.txt >"$HPCRUN_ENV/lock.txt" || rm -f -- "$HPCRUN_ENV/lock.txt"
else
    "$prefix/bin/python" -m pip --disable-pip-version-check freeze --all
    [ ! -e "$HPCRUN_ENV/report.json" ] || "$prefix/bin/python" - <<'END' || rm -f -- "$HPCRUN_ENV/lock.txt"
import json, os
folder = os.environ["HPCRUN_ENV"]
with open(f"{folder}/report.json", encoding="utf-8") as file:
    installed = json.load(file)["install"]
lines = []
for each in installed:
    hashes = each["download_info"]["archive_info"]["hashes"]
    named = " ".join(f"--hash={kind}:{value}" for kind, value in sorted(hashes.items()))
    lines.append(f"{each['metadata']['name']}=={each['metadata']['version']} {named}\n")
with open(f"{folder}/lock.txt", "w", encoding="utf-8") as file:
    file.writelines(sorted(lines))
END
fi
}
make() {
    set -euo pipefail
    trap - TERM INT HUP
    export HPCRUN_ENV=$folder
    cd recipe
    build
    record >"$HPCRUN_ENV/packages.txt.new"
    mv -f -- "$HPCRUN_ENV/packages.txt.new" "$HPCRUN_ENV/packages.txt"
}
describe() {
    local size
    size=$(du -sk -- "$folder" | cut -f 1)
    printf '%s,"folder":"%s","machine":"%s","host":"%s","user":"%s","made":"%s","seconds":%d,"bytes":%d,"tool":"%s"}\n' \
        '{"version": 1, "kind": "venv", "key": "8151840ce53196f7", "title": "venv of requirements.txt"' "${folder##*/}" "$(uname -m)" "$(hostname)" "$(id -un | tr -d '"\\')" \
        "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$SECONDS" "$((size * 1024))" \
        "$(head -n 1 "$folder/tool.txt" 2>/dev/null | tr -d '"\\[:cntrl:]')" \
        >"$folder/environment.json.new" && mv -f -- "$folder/environment.json.new" "$folder/environment.json"
}
# Whoever gives an environment its name first has made it; later ones take theirs away.
publish() {
    sync -- "$folder/environment.json" 2>/dev/null
    [ -e "$wanted/environment.json" ] || [ ! -L "$wanted" ] || rm -f -- "$wanted" # it leads nowhere
    ln -sn -- "${folder##*/}" "$wanted" 2>/dev/null || [ "$(readlink -- "$wanted")" = "${folder##*/}" ]
}

folder=${1-}
if [ -z "$folder" ]; then
    mkdir -p -- "$root" || exit 1
    until folder=$wanted.$(date +%s)-$$-$RANDOM && mkdir -- "$folder"; do
        [ -w "$root" ] || exit 1
    done
    cp -- "$0" "$folder/build.sh"
    # Whoever waits for this job finds what it makes.
    [ -z "${SLURM_JOB_ID-}" ] || ln -sfn -- "${folder##*/}" "$root/$name.job-$SLURM_JOB_ID"
fi
cd -- "$folder" || exit 1
touch beat
exec >>log.txt 2>&1 </dev/null
trap ended TERM INT HUP
if ! acquire; then
    say "it is there: $wanted"
    release
    discard
    exit 0
fi
say "making the $title as $folder on $(hostname)"
unpack || fail 1 "its files cannot be written"
# The builder itself shows that it lives, beside what it has started: were it killed, that could not be believed.
exec {log}>&1
# shellcheck disable=SC2034
exec {end}< <(make {held}>&1 >&"$log" 2>&1)
child=$!
while kill -0 "$child" 2>/dev/null; do
    touch beat
    read -r -t 2 -u "$end" || [ "$?" -gt 128 ] || break
done
wait "$child"
code=$?
[ "$code" -eq 0 ] || fail "$code" "ended with exit code $code"
say "made in $SECONDS seconds"
describe || fail 1 "it cannot be described"
if publish; then
    release
else
    release
    discard
fi
