#!/bin/bash
# image of image.def
# Rendered by hpcrun: makes an environment, once. Called as "build.sh FOLDER", where FOLDER was made for it and
# the lock says so; or without words, as a job of its own.
# shellcheck disable=SC1003,SC2016,SC2329
set -u -o pipefail
umask 077
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV CONDA_PREFIX

root=/scratch/alice/hpcrun/environments
name=apptainer-f692d70ff2b5dcd3
title='image of image.def'
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
put() { # NAME: a file from what comes on standard input
    mkdir -p -- "$(dirname -- "recipe/$1")" && base64 -d >"recipe/$1"
}
unpack() {
    mkdir -p recipe || return
    put hosts.txt <<'HPCRUN_END' || return
bm9kZTEK
HPCRUN_END
    put image.def <<'HPCRUN_END' || return
Qm9vdHN0cmFwOiBkb2NrZXIKRnJvbTogZGViaWFuOjEzCgolZmlsZXMKICAgIGhvc3RzLnR4dCAv
b3B0L2hvc3RzLnR4dAoKJXBvc3QKICAgIGFwdC1nZXQgdXBkYXRlICYmIGFwdC1nZXQgaW5zdGFs
bCAtLXllcyBvcGVubXBpLWJpbiBweXRob24zLW1waTRweQo=
HPCRUN_END
}
build() {
program=$HPCRUN_APPTAINER cache=${HPCRUN_APPTAINER_CACHE:-${HPCRUN_ENV%/*}/.apptainer}
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
if ! "$program" build  "$HPCRUN_ENV/image.sif" image.def 2>&1 </dev/null | tee said; then
    last=$(grep -vE '^(INFO|WARNING|FATAL):' said | tail -n 1 | cut -c 1-300 || true)
    [ -z "$last" ] || printf 'ERROR: before that, it said: %s\n' "$last"
    if grep -qiE 'fakeroot|subuid|user namespace|must be root|operation not permitted' said; then
        printf '%s\n' "ERROR: $(hostname) does not let you build images without fakeroot: set apptainer.fakeroot: true \
of the site, or build the image elsewhere and name the SIF file as environment.apptainer.image"
    fi
    exit 1
fi
exec {turn}>&-

}
record() {
printf '%s sha256:%s\n' sif "$(sha256sum <"$HPCRUN_ENV/image.sif" | cut -d ' ' -f 1)"

}
make() {
    set -euo pipefail
    trap - TERM INT HUP
    export HPCRUN_ENV=$folder
    export HPCRUN_APPTAINER=apptainer
    export HPCRUN_APPTAINER_CACHE='$SCRATCH/apptainer'
    cd recipe
    build
    record >"$HPCRUN_ENV/packages.txt.new"
    mv -f -- "$HPCRUN_ENV/packages.txt.new" "$HPCRUN_ENV/packages.txt"
}
describe() {
    local size
    size=$(du -sk -- "$folder" | cut -f 1)
    printf '%s,"folder":"%s","machine":"%s","host":"%s","user":"%s","made":"%s","seconds":%d,"bytes":%d,"tool":"%s"}\n' \
        '{"version": 1, "kind": "apptainer", "key": "f692d70ff2b5dcd3", "title": "image of image.def"' "${folder##*/}" "$(uname -m)" "$(hostname)" "$(id -un | tr -d '"\\')" \
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
