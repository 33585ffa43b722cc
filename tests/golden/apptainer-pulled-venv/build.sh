#!/bin/bash
# venv of einops in the image of docker://python:3.13-slim
# Rendered by hpcrun: makes an environment, once. Called as "build.sh FOLDER", where FOLDER was made for it and
# the lock says so; or without words, as a job of its own.
# shellcheck disable=SC1003,SC2016,SC2329
set -u -o pipefail
umask 077
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV CONDA_PREFIX

root=/scratch/alice/hpcrun/environments
name=apptainer-22408abce56dd57e
title='venv of einops in the image of docker://python:3.13-slim'
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
    put inside.sh <<'HPCRUN_END' || return
c2V0IC1ldW8gcGlwZWZhaWwKcHl0aG9uPXB5dGhvbjMKaWYgISBjb21tYW5kIC12ICIkcHl0aG9u
IiA+L2Rldi9udWxsIDI+JjE7IHRoZW4KICAgIGVjaG8gIkVSUk9SOiB0aGVyZSBpcyBubyAkcHl0
aG9uIG9uICQoaG9zdG5hbWUpIgogICAgZXhpdCAxCmZpCiIkcHl0aG9uIiAtLXZlcnNpb24KdXY9
JChjb21tYW5kIC12IHV2IHx8IHRydWUpClsgLXogIiR1diIgXSB8fCAiJHV2IiAtLXZlcnNpb24g
fCB0ZWUgIiRIUENSVU5fRU5WL3Rvb2wudHh0IgpwcmVmaXg9JEhQQ1JVTl9FTlYvcHJlZml4Cm1h
a2VfdmVudigpIHsKICAgIGlmIFsgLW4gIiR1diIgXTsgdGhlbgogICAgICAgICIkdXYiIHZlbnYg
LS1xdWlldCAtLXB5dGhvbiAiJChjb21tYW5kIC12ICIkcHl0aG9uIikiICIkcHJlZml4IgogICAg
ZWxzZQogICAgICAgICIkcHl0aG9uIiAtbSB2ZW52ICIkcHJlZml4IgogICAgICAgICIkcHJlZml4
L2Jpbi9weXRob24iIC1tIHBpcCAtLXZlcnNpb24gfCBjdXQgLWQgJyAnIC1mIDEsMiA+IiRIUENS
VU5fRU5WL3Rvb2wudHh0IgogICAgZmkKfQppbnN0YWxsKCkgewogICAgaWYgWyAtbiAiJHV2IiBd
OyB0aGVuCiAgICAgICAgIiR1diIgcGlwIGluc3RhbGwgLS1weXRob24gIiRwcmVmaXgvYmluL3B5
dGhvbiIgIiRAIgogICAgICAgIHJldHVybgogICAgZmkKICAgICMgV2hhdCB3YXMgdGFrZW4sIHdp
dGggaXRzIGhhc2hlcywgd2hlcmUgcGlwIGlzIG5ldyBlbm91Z2ggdG8gdGVsbCAoMjIuMikuCiAg
ICBpZiAiJHByZWZpeC9iaW4vcHl0aG9uIiAtbSBwaXAgaW5zdGFsbCAtLWhlbHAgfCBncmVwIC1x
IC1lICcgLS1yZXBvcnQgJzsgdGhlbgogICAgICAgIHNldCAtLSAtLXJlcG9ydCAiJEhQQ1JVTl9F
TlYvcmVwb3J0Lmpzb24iICIkQCIKICAgIGZpCiAgICAiJHByZWZpeC9iaW4vcHl0aG9uIiAtbSBw
aXAgLS1kaXNhYmxlLXBpcC12ZXJzaW9uLWNoZWNrIC0tbm8taW5wdXQgaW5zdGFsbCAtLXByb2dy
ZXNzLWJhciBvZmYgIiRAIgp9Cm1ha2VfdmVudgppbnN0YWxsICAtciByZXF1aXJlbWVudHMudHh0
Cgp7CmlmIFsgLW4gIiR1diIgXTsgdGhlbgogICAgIiR1diIgcGlwIGZyZWV6ZSAtLXB5dGhvbiAi
JHByZWZpeC9iaW4vcHl0aG9uIiB8IHRlZSBmcm96ZW4udHh0CiAgICAiJHV2IiBwaXAgY29tcGls
ZSAtLXF1aWV0IC0tbm8taGVhZGVyIC0tbm8tYW5ub3RhdGUgLS1nZW5lcmF0ZS1oYXNoZXMgLS1u
by1kZXBzIFwKICAgICAgICAtLXB5dGhvbiAiJHByZWZpeC9iaW4vcHl0aG9uIiAgZnJvemVuLnR4
dCA+IiRIUENSVU5fRU5WL2xvY2sudHh0IiB8fCBybSAtZiAtLSAiJEhQQ1JVTl9FTlYvbG9jay50
eHQiCmVsc2UKICAgICIkcHJlZml4L2Jpbi9weXRob24iIC1tIHBpcCAtLWRpc2FibGUtcGlwLXZl
cnNpb24tY2hlY2sgZnJlZXplIC0tYWxsCiAgICBbICEgLWUgIiRIUENSVU5fRU5WL3JlcG9ydC5q
c29uIiBdIHx8ICIkcHJlZml4L2Jpbi9weXRob24iIC0gPDwnRU5EJyB8fCBybSAtZiAtLSAiJEhQ
Q1JVTl9FTlYvbG9jay50eHQiCmltcG9ydCBqc29uLCBvcwpmb2xkZXIgPSBvcy5lbnZpcm9uWyJI
UENSVU5fRU5WIl0Kd2l0aCBvcGVuKGYie2ZvbGRlcn0vcmVwb3J0Lmpzb24iLCBlbmNvZGluZz0i
dXRmLTgiKSBhcyBmaWxlOgogICAgaW5zdGFsbGVkID0ganNvbi5sb2FkKGZpbGUpWyJpbnN0YWxs
Il0KbGluZXMgPSBbXQpmb3IgZWFjaCBpbiBpbnN0YWxsZWQ6CiAgICBoYXNoZXMgPSBlYWNoWyJk
b3dubG9hZF9pbmZvIl1bImFyY2hpdmVfaW5mbyJdWyJoYXNoZXMiXQogICAgbmFtZWQgPSAiICIu
am9pbihmIi0taGFzaD17a2luZH06e3ZhbHVlfSIgZm9yIGtpbmQsIHZhbHVlIGluIHNvcnRlZCho
YXNoZXMuaXRlbXMoKSkpCiAgICBsaW5lcy5hcHBlbmQoZiJ7ZWFjaFsnbWV0YWRhdGEnXVsnbmFt
ZSddfT09e2VhY2hbJ21ldGFkYXRhJ11bJ3ZlcnNpb24nXX0ge25hbWVkfVxuIikKd2l0aCBvcGVu
KGYie2ZvbGRlcn0vbG9jay50eHQiLCAidyIsIGVuY29kaW5nPSJ1dGYtOCIpIGFzIGZpbGU6CiAg
ICBmaWxlLndyaXRlbGluZXMoc29ydGVkKGxpbmVzKSkKRU5ECmZpCn0gPiIkSFBDUlVOX0VOVi9p
bnNpZGUudHh0Igo=
HPCRUN_END
    put requirements.txt <<'HPCRUN_END' || return
ZWlub3BzCg==
HPCRUN_END
}
build() {
set +e
hpcrun_load_modules cuda/12.4
set -e
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
from_registry() {
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
"$program" --debug pull "$HPCRUN_ENV/image.sif" docker://python:3.13-slim 2>&1 </dev/null | from_registry
exec {turn}>&-
export PYTHONNOUSERSITE=1
if ! "$program" --quiet exec --bind "$HPCRUN_ENV" --pwd "$PWD" --bind /scratch "$HPCRUN_ENV/image.sif" \
    bash inside.sh 2>&1 </dev/null | tee said; then
    ! grep -q 'bash.*not found' said || echo "ERROR: the image has no bash, and the venv is made by it"
    exit 1
fi

}
record() {
{
[ ! -s digest ] || printf '%s@sha256:%s\n' docker://python "$(cat digest)"
printf '%s sha256:%s\n' sif "$(sha256sum <"$HPCRUN_ENV/image.sif" | cut -d ' ' -f 1)"
} | sed 's/^/# /'
cat -- "$HPCRUN_ENV/inside.txt"

}
make() {
    set -euo pipefail
    trap - TERM INT HUP
    export HPCRUN_ENV=$folder
    export HPCRUN_APPTAINER=apptainer
    export HPCRUN_APPTAINER_CACHE=''
    cd recipe
    build
    record >"$HPCRUN_ENV/packages.txt.new"
    mv -f -- "$HPCRUN_ENV/packages.txt.new" "$HPCRUN_ENV/packages.txt"
}
describe() {
    local size
    size=$(du -sk -- "$folder" | cut -f 1)
    printf '%s,"folder":"%s","machine":"%s","host":"%s","user":"%s","made":"%s","seconds":%d,"bytes":%d,"tool":"%s"}\n' \
        '{"version": 1, "kind": "apptainer", "key": "22408abce56dd57e", "title": "venv of einops in the image of docker://python:3.13-slim"' "${folder##*/}" "$(uname -m)" "$(hostname)" "$(id -un | tr -d '"\\')" \
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
