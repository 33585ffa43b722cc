#!/bin/bash
# conda environment of python=3.11, mpi4py, openmpi
# Rendered by hpcrun: makes an environment, once. Called as "build.sh FOLDER", where FOLDER was made for it and
# the lock says so; or without words, as a job of its own.
# shellcheck disable=SC1003,SC2016,SC2329
set -u -o pipefail
umask 077
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV CONDA_PREFIX

root=/scratch/alice/hpcrun/environments
name=conda-eed6c08df721da1d
title='conda environment of python=3.11, mpi4py, openmpi'
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
    put channels.txt <<'HPCRUN_END' || return
Y29uZGEtZm9yZ2UK
HPCRUN_END
    put conda_make.sh <<'HPCRUN_END' || return
IyBzaGVsbGNoZWNrIHNoZWxsPWJhc2gKIyBNYWtlcyBhIGNvbmRhIGVudmlyb25tZW50IGluICRI
UENSVU5fRU5WL3ByZWZpeC4gU291cmNlZCwgdW5kZXIgc2V0IC1ldW8gcGlwZWZhaWwsIGluIGEg
Zm9sZGVyIHRoYXQgaG9sZHMKIyB3aGF0IGl0IGlzIHRvIGJlIG1hZGUgb2YsIG9uZSBpdGVtIGEg
bGluZTogY2hhbm5lbHMudHh0LCBzcGVjcy50eHQgb3IgZXhwbGljaXQudHh0LCBwaXAudHh0LCBw
aXAtb3B0aW9ucy50eHQuCgpocGNydW5fY29uZGFfcHJlZml4PSRIUENSVU5fRU5WL3ByZWZpeAoj
IEJlc2lkZSB0aGUgZW52aXJvbm1lbnRzOiBwYWNrYWdlcyBhcmUgbGlua2VkIGZyb20gaGVyZSwg
d2hpY2ggbmVlZHMgb25lIGZpbGUgc3lzdGVtLCBhbmQgbm90IHRoZSBob21lJ3MgcXVvdGEuCmhw
Y3J1bl9jb25kYV9jYWNoZT0ke0hQQ1JVTl9FTlYlLyp9Ly5jYWNoZQoKaHBjcnVuX2NvbmRhX2Zh
aWwoKSB7CiAgICBwcmludGYgJ0VSUk9SOiAlc1xuJyAiJEAiCiAgICBleGl0IDEKfQoKIyBtaWNy
b21hbWJhIGJlZm9yZSBtYW1iYSBiZWZvcmUgY29uZGE6IGJ5IG5hbWUgb24gUEFUSCwgdGhlbiB3
aGVyZSBlYWNoIGlzIGxpa2VseSB0byBsaWUuCmhwY3J1bl9jb25kYV9maW5kKCkgewogICAgbG9j
YWwgbmFtZSBmb2xkZXIgZm91bmQgZm9sZGVycz0oKQogICAgaHBjcnVuX2NvbmRhX3Rvb2w9CiAg
ICBpZiBbIC1uICIke0hQQ1JVTl9DT05EQV9FWEVDVVRBQkxFLX0iIF07IHRoZW4KICAgICAgICBo
cGNydW5fY29uZGFfdG9vbD0kKHR5cGUgLVAgLS0gIiRIUENSVU5fQ09OREFfRVhFQ1VUQUJMRSIp
IHx8IGhwY3J1bl9jb25kYV9mYWlsIFwKICAgICAgICAgICAgInRoZXJlIGlzIG5vIHByb2dyYW0g
JEhQQ1JVTl9DT05EQV9FWEVDVVRBQkxFIG9uICQoaG9zdG5hbWUpIiBcCiAgICAgICAgICAgICJj
b25kYS5leGVjdXRhYmxlIG9mIHNpdGVfY29uZmlncy8kSFBDUlVOX0NPTkRBX1NJVEUueWFtbCBu
YW1lcyBpdCIKICAgICAgICByZXR1cm4KICAgIGZpCiAgICBbIC16ICIke0hQQ1JVTl9DT05EQV9S
T09ULX0iIF0gfHwgZm9sZGVycz0oIiRIUENSVU5fQ09OREFfUk9PVCIve2Jpbixjb25kYWJpbn0p
CiAgICBmb2xkZXJzKz0oIiRIT01FIi97LmxvY2FsL2JpbixiaW4sbWluaWZvcmdlMy9iaW4sbWFt
YmFmb3JnZS9iaW4sbWluaWNvbmRhMy9iaW4sYW5hY29uZGEzL2Jpbn0gL29wdC9jb25kYS9iaW4p
CiAgICBmb3IgbmFtZSBpbiBtaWNyb21hbWJhIG1hbWJhIGNvbmRhOyBkbwogICAgICAgIGlmIGZv
dW5kPSQodHlwZSAtUCAiJG5hbWUiKTsgdGhlbgogICAgICAgICAgICBocGNydW5fY29uZGFfdG9v
bD0kZm91bmQKICAgICAgICAgICAgcmV0dXJuCiAgICAgICAgZmkKICAgICAgICBmb3IgZm9sZGVy
IGluICIke2ZvbGRlcnNbQF19IjsgZG8KICAgICAgICAgICAgaWYgWyAteCAiJGZvbGRlci8kbmFt
ZSIgXSAmJiAhIFsgLWQgIiRmb2xkZXIvJG5hbWUiIF07IHRoZW4KICAgICAgICAgICAgICAgIGhw
Y3J1bl9jb25kYV90b29sPSRmb2xkZXIvJG5hbWUKICAgICAgICAgICAgICAgIHJldHVybgogICAg
ICAgICAgICBmaQogICAgICAgIGRvbmUKICAgICAgICBmb3IgZm91bmQgaW4gIiR7TUFNQkFfRVhF
LX0iICIke0NPTkRBX0VYRS19IjsgZG8KICAgICAgICAgICAgaWYgWyAteCAiJGZvdW5kIiBdICYm
IFsgIiR7Zm91bmQjIyovfSIgPSAiJG5hbWUiIF07IHRoZW4KICAgICAgICAgICAgICAgIGhwY3J1
bl9jb25kYV90b29sPSRmb3VuZAogICAgICAgICAgICAgICAgcmV0dXJuCiAgICAgICAgICAgIGZp
CiAgICAgICAgZG9uZQogICAgZG9uZQp9CgojIFB5dGhvbiB3aXRoIHB5LXJhdHRsZXI6IHRoZSBj
YWxsZXIncyBvd24sIHdoZXJlIHRoaXMgaXMgZG9uZSBvbiBpdHMgbWFjaGluZSBvciBvbiBvbmUg
dGhhdCBzaGFyZXMgaXRzIGZpbGVzLgpocGNydW5fY29uZGFfZmluZF9yYXR0bGVyKCkgewogICAg
Zm9yIGhwY3J1bl9jb25kYV9weXRob24gaW4gIiR7SFBDUlVOX1BZVEhPTi19IiBweXRob24zOyBk
bwogICAgICAgIGlmIFsgLW4gIiRocGNydW5fY29uZGFfcHl0aG9uIiBdICYmICIkaHBjcnVuX2Nv
bmRhX3B5dGhvbiIgLWMgJ2ltcG9ydCByYXR0bGVyJyAyPi9kZXYvbnVsbDsgdGhlbgogICAgICAg
ICAgICByZXR1cm4gMAogICAgICAgIGZpCiAgICBkb25lCiAgICByZXR1cm4gMQp9CgpocGNydW5f
Y29uZGFfbWFkZV9ieSgpIHsKICAgIHByaW50ZiAnJXNcbicgIiQxIiB8IHRlZSAiJEhQQ1JVTl9F
TlYvdG9vbC50eHQiCn0KCiMgVGhlIG9wdGlvbnMgdGhhdCBzdGFuZCBoZXJlIGFyZSBzcGVsbGVk
IHRoZSBzYW1lIGJ5IGFsbCB0aHJlZTsgd2hhdCBpcyBvbmUncyBvd24gaXMgYXNrZWQgZm9yIGJ5
IGl0cyBuYW1lLgpocGNydW5fY29uZGFfY3JlYXRlKCkgewogICAgbG9jYWwgY2hhbm5lbHM9KCkg
c3BlY3M9KCkgb3B0aW9ucz0oKSBlYWNoCiAgICBjYXNlICR7aHBjcnVuX2NvbmRhX3Rvb2wjIyov
fSBpbgogICAgICAgIG1pY3JvbWFtYmEpIGV4cG9ydCBNQU1CQV9ST09UX1BSRUZJWD0kaHBjcnVu
X2NvbmRhX2NhY2hlL21pY3JvbWFtYmEgOzsKICAgICAgICBjb25kYSkgb3B0aW9ucz0oLS1xdWll
dCAtLW5vLWRlZmF1bHQtcGFja2FnZXMpIDs7CiAgICBlc2FjCiAgICBleHBvcnQgQ09OREFfUEtH
U19ESVJTPSRocGNydW5fY29uZGFfY2FjaGUvY29uZGEgQ09OREFfUkVHSVNURVJfRU5WUz1mYWxz
ZQogICAgZXhwb3J0IENPTkRBX05VTUJFUl9DSEFOTkVMX05PVElDRVM9MCBDT05EQV9OT1RJRllf
T1VUREFURURfQ09OREE9ZmFsc2UgTUFNQkFfTk9fQkFOTkVSPTEKICAgIGVhY2g9JCgiJGhwY3J1
bl9jb25kYV90b29sIiAtLXZlcnNpb24gPC9kZXYvbnVsbCkKICAgIGVhY2g9JHtlYWNoJSUkJ1xu
Jyp9ICMgbWFtYmEgMSBnb2VzIG9uIHdpdGggY29uZGEncwogICAgaHBjcnVuX2NvbmRhX21hZGVf
YnkgIiR7aHBjcnVuX2NvbmRhX3Rvb2wjIyovfSAke2VhY2gjIypbITAtOS5hLXpdfSIKICAgIGVj
aG8gIiRocGNydW5fY29uZGFfdG9vbCIKICAgIGlmIFsgLWUgZXhwbGljaXQudHh0IF07IHRoZW4K
ICAgICAgICAiJGhwY3J1bl9jb25kYV90b29sIiBjcmVhdGUgLS15ZXMgIiR7b3B0aW9uc1tAXX0i
IC0tcHJlZml4ICIkaHBjcnVuX2NvbmRhX3ByZWZpeCIgLS1maWxlIGV4cGxpY2l0LnR4dCA8L2Rl
di9udWxsCiAgICAgICAgcmV0dXJuCiAgICBmaQogICAgbWFwZmlsZSAtdCBjaGFubmVscyA8Y2hh
bm5lbHMudHh0CiAgICBtYXBmaWxlIC10IHNwZWNzIDxzcGVjcy50eHQKICAgIGZvciBlYWNoIGlu
ICIke2NoYW5uZWxzW0BdfSI7IGRvCiAgICAgICAgb3B0aW9ucys9KC0tY2hhbm5lbCAiJGVhY2gi
KQogICAgZG9uZQogICAgIiRocGNydW5fY29uZGFfdG9vbCIgY3JlYXRlIC0teWVzICIke29wdGlv
bnNbQF19IiAtLXByZWZpeCAiJGhwY3J1bl9jb25kYV9wcmVmaXgiIFwKICAgICAgICAtLW92ZXJy
aWRlLWNoYW5uZWxzIC0tc3RyaWN0LWNoYW5uZWwtcHJpb3JpdHkgIiR7c3BlY3NbQF19IiA8L2Rl
di9udWxsCn0KCmhwY3J1bl9jb25kYV9weXRob24oKSB7ICMgdGhlIHByZWZpeCdzIG93biwgb3Ig
b25lIHRoYXQgY2FuIHJlYWQgd2hhdCBsaWVzIGluIGl0CiAgICB0eXBlIC1QIC0tICIkaHBjcnVu
X2NvbmRhX3ByZWZpeC9iaW4vcHl0aG9uMyIgfHwgdHlwZSAtUCAtLSAiJGhwY3J1bl9jb25kYV9w
cmVmaXgvYmluL3B5dGhvbiIgfHwgdHlwZSAtUCBweXRob24zCn0KCiMgUGFja2FnZXMgbWF5IGJl
IGNvbXBpbGVkLCB3aXRoIHdoYXQgdGhlIHNjcmlwdHMgb2Ygb3RoZXJzIHNldDsgdGhleSBhcmUg
bm90IHdyaXR0ZW4gZm9yIHNldCAtZXUuCmhwY3J1bl9jb25kYV9pbnN0YWxsX2J5X3BpcCgpICgK
ICAgIGxvY2FsIG9wdGlvbnM9KCkgc2NyaXB0CiAgICBtYXBmaWxlIC10IG9wdGlvbnMgPCA8KGNh
dCBwaXAtb3B0aW9ucy50eHQgMj4vZGV2L251bGwpCiAgICBleHBvcnQgQ09OREFfUFJFRklYPSRo
cGNydW5fY29uZGFfcHJlZml4IFBBVEg9JGhwY3J1bl9jb25kYV9wcmVmaXgvYmluOiRQQVRICiAg
ICBzZXQgK2V1CiAgICBmb3Igc2NyaXB0IGluICIkaHBjcnVuX2NvbmRhX3ByZWZpeCIvZXRjL2Nv
bmRhL2FjdGl2YXRlLmQvKi5zaDsgZG8KICAgICAgICAjIHNoZWxsY2hlY2sgZGlzYWJsZT1TQzEw
OTAKICAgICAgICBbIC1yICIkc2NyaXB0IiBdICYmIC4gIiRzY3JpcHQiCiAgICBkb25lCiAgICBz
ZXQgLWV1CiAgICBlY2hvICJwaXAgaW5zdGFsbCwgYnkgJGhwY3J1bl9jb25kYV9wcmVmaXgvYmlu
L3B5dGhvbiIKICAgIGV4ZWMgIiRocGNydW5fY29uZGFfcHJlZml4L2Jpbi9weXRob24iIC1tIHBp
cCBpbnN0YWxsIC0tbm8taW5wdXQgLS1kaXNhYmxlLXBpcC12ZXJzaW9uLWNoZWNrIFwKICAgICAg
ICAtLXByb2dyZXNzLWJhciBvZmYgIiR7b3B0aW9uc1tAXX0iIC0tcmVxdWlyZW1lbnQgcGlwLnR4
dCA8L2Rldi9udWxsCikKCmhwY3J1bl9jb25kYV92ZXJpZnkoKSB7CiAgICBsb2NhbCBzYWlkCiAg
ICBjb21wZ2VuIC1HICIkaHBjcnVuX2NvbmRhX3ByZWZpeC9jb25kYS1tZXRhLyouanNvbiIgPi9k
ZXYvbnVsbCB8fAogICAgICAgIGhwY3J1bl9jb25kYV9mYWlsICJub3RoaW5nIHdhcyBpbnN0YWxs
ZWQgaW4gJGhwY3J1bl9jb25kYV9wcmVmaXgiCiAgICBpZiBbIC1lICIkaHBjcnVuX2NvbmRhX3By
ZWZpeC9iaW4vcHl0aG9uIiBdOyB0aGVuCiAgICAgICAgc2FpZD0kKCIkaHBjcnVuX2NvbmRhX3By
ZWZpeC9iaW4vcHl0aG9uIiAtSSAtYyAnaW1wb3J0IHN5czsgcHJpbnQoc3lzLnByZWZpeCknKSB8
fAogICAgICAgICAgICBocGNydW5fY29uZGFfZmFpbCAidGhlIHB5dGhvbiB0aGF0IHdhcyBpbnN0
YWxsZWQgZG9lcyBub3QgcnVuIgogICAgICAgIFsgIiRzYWlkIiAtZWYgIiRocGNydW5fY29uZGFf
cHJlZml4IiBdIHx8CiAgICAgICAgICAgIGhwY3J1bl9jb25kYV9mYWlsICJ0aGUgcHl0aG9uIHRo
YXQgd2FzIGluc3RhbGxlZCBiZWxpZXZlcyB0aGF0IGl0IGxpZXMgaW4gJHNhaWQiCiAgICBmaQp9
CgpocGNydW5fY29uZGFfbWFrZSgpIHsKICAgICMgUGVvcGxlJ3Mgb3duIHNldHRpbmdzIGFyZSBm
b3IgdGhlaXIgb3duIGVudmlyb25tZW50czsgbWlycm9ycyBvZiB0aGVpcnMgaG9sZC4KICAgIHVu
c2V0IFBZVEhPTkhPTUUgUFlUSE9OUEFUSCBQSVBfUkVRVUlSRV9WSVJUVUFMRU5WIFBJUF9UQVJH
RVQgUElQX1BSRUZJWAogICAgZXhwb3J0IFBZVEhPTk5PVVNFUlNJVEU9MSBQSVBfVVNFUj0wIFBJ
UF9DQUNIRV9ESVI9JGhwY3J1bl9jb25kYV9jYWNoZS9waXAKICAgIG1rZGlyIC1wICIkaHBjcnVu
X2NvbmRhX2NhY2hlIgogICAgd2hpbGUgSUZTPSByZWFkIC1yIGhwY3J1bl9jb25kYV9saW5lOyBk
bwogICAgICAgICMgc2hlbGxjaGVjayBkaXNhYmxlPVNDMjE2MwogICAgICAgIGV4cG9ydCAiJGhw
Y3J1bl9jb25kYV9saW5lIgogICAgZG9uZSA8IDwoY2F0IG92ZXJyaWRlcy50eHQgMj4vZGV2L251
bGwpCiAgICBocGNydW5fY29uZGFfZmluZAogICAgaWYgWyAtbiAiJGhwY3J1bl9jb25kYV90b29s
IiBdOyB0aGVuCiAgICAgICAgaHBjcnVuX2NvbmRhX2NyZWF0ZQogICAgZWxpZiBocGNydW5fY29u
ZGFfZmluZF9yYXR0bGVyOyB0aGVuCiAgICAgICAgaHBjcnVuX2NvbmRhX21hZGVfYnkgInB5LXJh
dHRsZXIgJCgiJGhwY3J1bl9jb25kYV9weXRob24iIC1jICdpbXBvcnQgcmF0dGxlcjsgcHJpbnQo
cmF0dGxlci5fX3ZlcnNpb25fXyknKSIKICAgICAgICAiJGhwY3J1bl9jb25kYV9weXRob24iIGNv
bmRhX3JhdHRsZXIucHkgIiRocGNydW5fY29uZGFfcHJlZml4IiAiJGhwY3J1bl9jb25kYV9jYWNo
ZS9yYXR0bGVyIiA8L2Rldi9udWxsCiAgICBlbHNlCiAgICAgICAgaHBjcnVuX2NvbmRhX2ZhaWwg
InRoZXJlIGlzIG5vIG1pY3JvbWFtYmEsIG1hbWJhIG9yIGNvbmRhIG9uICQoaG9zdG5hbWUpLCBh
bmQgbm8gUHl0aG9uIHdpdGggcHktcmF0dGxlciIgXAogICAgICAgICAgICAibWljcm9tYW1iYSBp
cyBvbmUgZmlsZTogcHV0IGl0IG9uIHRoZSBQQVRIIHRoZXJlLCBvciBuYW1lIGl0IGluIGNvbmRh
LmV4ZWN1dGFibGUgb2Ygc2l0ZV9jb25maWdzLyRIUENSVU5fQ09OREFfU0lURS55YW1sIiBcCiAg
ICAgICAgICAgICJvciwgd2hlcmUgaHBjcnVuIGl0c2VsZiBydW5zIHRoZXJlOiBwaXAgaW5zdGFs
bCAnaHBjcnVuLXRvb2xraXRbY29uZGFdJyIKICAgIGZpCiAgICBocGNydW5fY29uZGFfdmVyaWZ5
CiAgICBpZiBbIC1lIHBpcC50eHQgXTsgdGhlbgogICAgICAgIGhwY3J1bl9jb25kYV9pbnN0YWxs
X2J5X3BpcAogICAgZmkKICAgICMgY29uZGEgdGFrZXMgYSBmb2xkZXIgd2l0aCB0aGlzIGZpbGUg
Zm9yIGFuIGVudmlyb25tZW50LCBhbmQgcHktcmF0dGxlciB3cml0ZXMgbm9uZS4KICAgIFsgLWUg
IiRocGNydW5fY29uZGFfcHJlZml4L2NvbmRhLW1ldGEvaGlzdG9yeSIgXSB8fCA6ID4iJGhwY3J1
bl9jb25kYV9wcmVmaXgvY29uZGEtbWV0YS9oaXN0b3J5IgogICAgaWYgWyAtZSBzdGF0ZS5qc29u
IF07IHRoZW4KICAgICAgICBjcCBzdGF0ZS5qc29uICIkaHBjcnVuX2NvbmRhX3ByZWZpeC9jb25k
YS1tZXRhL3N0YXRlIgogICAgZmkKfQoKaHBjcnVuX2NvbmRhX3JlY29yZCgpIHsKICAgIGxvY2Fs
IHB5dGhvbgogICAgcHl0aG9uPSQoaHBjcnVuX2NvbmRhX3B5dGhvbikgfHwgaHBjcnVuX2NvbmRh
X2ZhaWwgInRoZXJlIGlzIG5vIHB5dGhvbjMgdG8gcmVhZCBjb25kYS1tZXRhIHdpdGgiCiAgICB7
ICIkaHBjcnVuX2NvbmRhX3ByZWZpeC9iaW4vcHl0aG9uIiAtbSBwaXAgLS1kaXNhYmxlLXBpcC12
ZXJzaW9uLWNoZWNrIGZyZWV6ZSAtLWFsbCAyPi9kZXYvbnVsbCB8fCA6OyB9IHwKICAgICAgICAi
JHB5dGhvbiIgLUkgY29uZGFfcmVjb3JkLnB5ICIkaHBjcnVuX2NvbmRhX3ByZWZpeCIKfQo=
HPCRUN_END
    put conda_rattler.py <<'HPCRUN_END' || return
IiIiTWFrZXMgYSBjb25kYSBwcmVmaXggd2l0aCBweS1yYXR0bGVyLCB3aGVyZSB0aGVyZSBpcyBu
byBtaWNyb21hbWJhLCBtYW1iYSBvciBjb25kYS4KCiAgICBweXRob24zIGNvbmRhX3JhdHRsZXIu
cHkgUFJFRklYIENBQ0hFCgpSdW4gd2hlcmUgdGhlIGVudmlyb25tZW50IGlzIG1hZGUsIGluIHRo
ZSBmb2xkZXIgdGhhdCBzYXlzIG9mIHdoYXQ6IGEgcHJvZ3JhbSBvZiBpdHMgb3duLCBmb3IgYW55
IFB5dGhvbiB0aGF0CmhhcyBweS1yYXR0bGVyLCBubyBwYXJ0IG9mIGhwY3J1bi4gSXQgZW5kcyB3
aXRoIDEsIGFuZCB0aGUgc29sdmVyJ3Mgd29yZHMsIHdoZXJlIHRoZXJlIGlzIG5vIHNvbHV0aW9u
LgoiIiIKCmZyb20gX19mdXR1cmVfXyBpbXBvcnQgYW5ub3RhdGlvbnMKCmltcG9ydCBhc3luY2lv
CmltcG9ydCBvcwppbXBvcnQgcmUKaW1wb3J0IHN5cwpmcm9tIGNvbGxlY3Rpb25zLmFiYyBpbXBv
cnQgU2VxdWVuY2UKZnJvbSBwYXRobGliIGltcG9ydCBQYXRoCmZyb20gdHlwaW5nIGltcG9ydCBB
bnkKCl9QQUNLQUdFID0gcmUuY29tcGlsZSgKICAgIHIiKD9QPGNoYW5uZWw+LispLyg/UDxzdWJk
aXI+W14vXSspLyg/UDxmaWxlPig/UDxuYW1lPlteL10rKS0oP1A8dmVyc2lvbj5bXi0vXSspLSg/
UDxidWlsZD5bXi0vXSspIgogICAgciIoPzpcLmNvbmRhfFwudGFyXC5iejIpKSg/OiMoP1A8aGFz
aD5bMC05YS1mXSspKT8iCikKCgpkZWYgbGluZXMobmFtZTogc3RyKSAtPiBsaXN0W3N0cl06CiAg
ICBwYXRoID0gUGF0aChuYW1lKQogICAgcmV0dXJuIHBhdGgucmVhZF90ZXh0KGVuY29kaW5nPSJ1
dGYtOCIpLnNwbGl0bGluZXMoKSBpZiBwYXRoLmV4aXN0cygpIGVsc2UgW10KCgpkZWYgYXNrZWQo
KSAtPiB0dXBsZVtsaXN0W3N0cl0sIGxpc3Rbc3RyXSwgZGljdFtzdHIsIHN0cl1dOgogICAgIiIi
Q2hhbm5lbHMsIHNwZWNzLCBhbmQgdGhlIGhhc2hlcyBieSBVUkwgd2hlcmUgcGFja2FnZXMgYXJl
IG5hbWVkIGJ5IHRoZWlyIFVSTHMuIiIiCiAgICBjaGFubmVscywgc3BlY3MsIGhhc2hlcyA9IGxp
bmVzKCJjaGFubmVscy50eHQiKSwgbGluZXMoInNwZWNzLnR4dCIpLCB7fQogICAgZm9yIGxpbmUg
aW4gbGluZXMoImV4cGxpY2l0LnR4dCIpOgogICAgICAgIGZvdW5kID0gX1BBQ0tBR0UuZnVsbG1h
dGNoKGxpbmUpCiAgICAgICAgaWYgbGluZS5zdGFydHN3aXRoKCgiIyIsICJAIikpOgogICAgICAg
ICAgICBjb250aW51ZQogICAgICAgIGlmIGZvdW5kIGlzIE5vbmU6CiAgICAgICAgICAgIHJhaXNl
IFZhbHVlRXJyb3IoZiJub3QgdGhlIFVSTCBvZiBhIGNvbmRhIHBhY2thZ2U6IHtsaW5lfSIpCiAg
ICAgICAgY2hhbm5lbHMuYXBwZW5kKGZvdW5kWyJjaGFubmVsIl0pCiAgICAgICAgc3BlY3MuYXBw
ZW5kKGYie2ZvdW5kWyduYW1lJ119ID09e2ZvdW5kWyd2ZXJzaW9uJ119IHtmb3VuZFsnYnVpbGQn
XX0iKQogICAgICAgIGhhc2hlc1tmIntmb3VuZFsnY2hhbm5lbCddfS97Zm91bmRbJ3N1YmRpcidd
fS97Zm91bmRbJ2ZpbGUnXX0iXSA9IGZvdW5kWyJoYXNoIl0gb3IgIiIKICAgIHJldHVybiBsaXN0
KGRpY3QuZnJvbWtleXMoY2hhbm5lbHMpKSwgc3BlY3MsIGhhc2hlcwoKCmRlZiB1bmV4cGVjdGVk
KHJlY29yZHM6IFNlcXVlbmNlW0FueV0sIGhhc2hlczogZGljdFtzdHIsIHN0cl0pIC0+IGxpc3Rb
c3RyXToKICAgICIiIldoYXQgd2FzIHJlc29sdmVkIHRvIHNvbWV0aGluZyBlbHNlIHRoYW4gdGhl
IFVSTHMgdGhhdCB3ZXJlIGFza2VkIGZvci4iIiIKICAgIGdvdCA9IHtyZWNvcmQudXJsOiByZWNv
cmQgZm9yIHJlY29yZCBpbiByZWNvcmRzfQogICAgd3JvbmcgPSBbZiJubyBsb25nZXIgdGhlcmU6
IHt1cmx9IiBmb3IgdXJsIGluIGhhc2hlcyBpZiB1cmwgbm90IGluIGdvdF0KICAgIHdyb25nICs9
IFtmIm5vdCBhc2tlZCBmb3I6IHt1cmx9IiBmb3IgdXJsIGluIGdvdCBpZiB1cmwgbm90IGluIGhh
c2hlc10KICAgIGZvciB1cmwgaW4gc2V0KGhhc2hlcykgJiBzZXQoZ290KToKICAgICAgICBrbm93
biA9IHt2YWx1ZS5oZXgoKSBmb3IgdmFsdWUgaW4gKGdvdFt1cmxdLm1kNSwgZ290W3VybF0uc2hh
MjU2KSBpZiB2YWx1ZX0KICAgICAgICBpZiBoYXNoZXNbdXJsXSBhbmQgaGFzaGVzW3VybF0gbm90
IGluIGtub3duOgogICAgICAgICAgICB3cm9uZy5hcHBlbmQoZiJhbm90aGVyIGZpbGUgdGhhbiBp
dCB3YXM6IHt1cmx9IikKICAgIHJldHVybiB3cm9uZwoKCmFzeW5jIGRlZiBtYWtlKHByZWZpeDog
c3RyLCBjYWNoZTogc3RyKSAtPiBOb25lOgogICAgZnJvbSByYXR0bGVyIGltcG9ydCBDaGFubmVs
UHJpb3JpdHksIEdhdGV3YXksIFZpcnR1YWxQYWNrYWdlLCBpbnN0YWxsLCBzb2x2ZQoKICAgIGNo
YW5uZWxzLCBzcGVjcywgaGFzaGVzID0gYXNrZWQoKQogICAgcHJpbnQoZiJweS1yYXR0bGVyOiBz
b2x2aW5nIHsnLCAnLmpvaW4oc3BlY3MpfSIsIGZsdXNoPVRydWUpCiAgICByZWNvcmRzID0gYXdh
aXQgc29sdmUoCiAgICAgICAgc291cmNlcz1jaGFubmVscywKICAgICAgICBzcGVjcz1zcGVjcywK
ICAgICAgICBnYXRld2F5PUdhdGV3YXkoY2FjaGVfZGlyPVBhdGgoY2FjaGUpIC8gInJlcG9kYXRh
IiksCiAgICAgICAgdmlydHVhbF9wYWNrYWdlcz1WaXJ0dWFsUGFja2FnZS5kZXRlY3QoKSwKICAg
ICAgICBjaGFubmVsX3ByaW9yaXR5PUNoYW5uZWxQcmlvcml0eS5EaXNhYmxlZCBpZiBoYXNoZXMg
ZWxzZSBDaGFubmVsUHJpb3JpdHkuU3RyaWN0LAogICAgKQogICAgd3JvbmcgPSB1bmV4cGVjdGVk
KHJlY29yZHMsIGhhc2hlcykgaWYgaGFzaGVzIGVsc2UgW10KICAgIGlmIHdyb25nOgogICAgICAg
IHJhaXNlIFZhbHVlRXJyb3IoIlxuIi5qb2luKHdyb25nKSkKICAgIGZvciByZWNvcmQgaW4gcmVj
b3JkczoKICAgICAgICBwcmludChmIiAge3JlY29yZC5uYW1lLm5vcm1hbGl6ZWR9IHtyZWNvcmQu
dmVyc2lvbn0ge3JlY29yZC5idWlsZH0gZnJvbSB7cmVjb3JkLmNoYW5uZWx9IiwgZmx1c2g9VHJ1
ZSkKICAgIGF3YWl0IGluc3RhbGwoCiAgICAgICAgcmVjb3Jkcz1yZWNvcmRzLAogICAgICAgIHRh
cmdldF9wcmVmaXg9cHJlZml4LAogICAgICAgIGNhY2hlX2Rpcj1QYXRoKGNhY2hlKSAvICJwYWNr
YWdlcyIsCiAgICAgICAgZXhlY3V0ZV9saW5rX3NjcmlwdHM9VHJ1ZSwgICMgYXMgY29uZGEsIG1h
bWJhIGFuZCBtaWNyb21hbWJhIGRvCiAgICAgICAgc2hvd19wcm9ncmVzcz1GYWxzZSwKICAgICkK
CgpkZWYgbWFpbigpIC0+IGludDoKICAgIHRyeToKICAgICAgICBhc3luY2lvLnJ1bihtYWtlKCpz
eXMuYXJndlsxOjNdKSkKICAgIGV4Y2VwdCBFeGNlcHRpb24gYXMgZXJyb3I6ICAjIHdoYXRldmVy
IHJhdHRsZXIgcmFpc2VzOiBpdHMgd29yZHMgYXJlIHdoYXQgcGVvcGxlIG5lZWQKICAgICAgICBw
cmludChmIkVSUk9SOiB7ZXJyb3J9IiwgZmlsZT1zeXMuc3RkZXJyKQogICAgICAgIHJldHVybiAx
CiAgICByZXR1cm4gMAoKCmlmIF9fbmFtZV9fID09ICJfX21haW5fXyI6CiAgICBzeXMucGF0aC5w
b3AoMCkgICMgdGhlIGZvbGRlciB0aGlzIGxpZXMgaW4sIHdoaWNoIG1heSBob2xkIGFueXRoaW5n
CiAgICBjb2RlID0gbWFpbigpCiAgICBzeXMuc3Rkb3V0LmZsdXNoKCkKICAgIHN5cy5zdGRlcnIu
Zmx1c2goKQogICAgIyBJdHMgdGhyZWFkcyBtYXkgb3V0bGl2ZSBQeXRob24ncyBlbmQsIHdoaWNo
IGlzIGEgZmF0YWwgZXJyb3Igb2YgdGhlIGludGVycHJldGVyIChzZWVuIHdpdGggMC4yOCkuCiAg
ICBvcy5fZXhpdChjb2RlKQo=
HPCRUN_END
    put conda_record.py <<'HPCRUN_END' || return
IyBydWZmOiBub3FhOiBVUDAwNiwgVVAwMzUgLSBzcGVsbGVkIGFzIFB5dGhvbiAzLjYgaGFzIGl0
LCB3aGljaCBlbnRlcnByaXNlIExpbnV4IDggY29tZXMgd2l0aAoiIiJQcmludHMgd2hhdCBhIGNv
bmRhIHByZWZpeCBob2xkczogd2hhdCBgYGNvbmRhIGxpc3QgLS1leHBsaWNpdCAtLW1kNWBgIGRv
ZXMsIHRoZW4gd2hhdCBjYW1lIGJ5IHBpcC4KCiAgICBwaXAgZnJlZXplIC0tYWxsIHwgcHl0aG9u
MyBjb25kYV9yZWNvcmQucHkgUFJFRklYCgpSdW4gd2hlcmUgdGhlIGVudmlyb25tZW50IGlzIG1h
ZGUsIGJ5IHdoYXRldmVyIFB5dGhvbiAzIGlzIHRoZXJlOiB0aGUgc3RhbmRhcmQgbGlicmFyeSBh
bG9uZSwgbm8gcGFydCBvZgpocGNydW4uIFBhY2thZ2VzIHRoYXQgcGlwIGluc3RhbGxlZCBhcmUg
Y29tbWVudHMsIGBgIyBwaXA6IE5BTUU9PVZFUlNJT05gYCwgc28gdGhhdCBjb25kYSwgbWFtYmEg
YW5kCm1pY3JvbWFtYmEgdGFrZSB0aGUgZmlsZSBhcyBpdCBpcy4KIiIiCgppbXBvcnQganNvbgpp
bXBvcnQgcmUKaW1wb3J0IHN5cwpmcm9tIHBhdGhsaWIgaW1wb3J0IFBhdGgKZnJvbSB0eXBpbmcg
aW1wb3J0IEFueSwgRGljdCwgTGlzdCwgU2V0CgpSZWNvcmQgPSBEaWN0W3N0ciwgQW55XQoKCmRl
ZiByZWNvcmRzKHByZWZpeDogUGF0aCkgLT4gTGlzdFtSZWNvcmRdOgogICAgIiIiT2YgdGhlIGlu
c3RhbGxlZCBwYWNrYWdlcywgZWFjaCBhZnRlciB0aG9zZSBpdCBkZXBlbmRzIG9uLiIiIgogICAg
Zm91bmQ6IERpY3Rbc3RyLCBSZWNvcmRdID0ge30KICAgIGZvciBwYXRoIGluIHNvcnRlZCgocHJl
Zml4IC8gImNvbmRhLW1ldGEiKS5nbG9iKCIqLmpzb24iKSk6CiAgICAgICAgcmVjb3JkID0ganNv
bi5sb2FkcyhwYXRoLnJlYWRfdGV4dChlbmNvZGluZz0idXRmLTgiKSkKICAgICAgICBmb3VuZFty
ZWNvcmRbIm5hbWUiXV0gPSByZWNvcmQKICAgIG9yZGVyZWQ6IExpc3RbUmVjb3JkXSA9IFtdCiAg
ICBzZWVuOiBTZXRbc3RyXSA9IHNldCgpCgogICAgZGVmIGFkZChuYW1lOiBzdHIpIC0+IE5vbmU6
CiAgICAgICAgaWYgbmFtZSBpbiBmb3VuZCBhbmQgbmFtZSBub3QgaW4gc2VlbjoKICAgICAgICAg
ICAgc2Vlbi5hZGQobmFtZSkKICAgICAgICAgICAgZm9yIGRlcGVuZHMgaW4gZm91bmRbbmFtZV0u
Z2V0KCJkZXBlbmRzIiwgKCkpOgogICAgICAgICAgICAgICAgYWRkKGRlcGVuZHMuc3BsaXQoKVsw
XSkKICAgICAgICAgICAgb3JkZXJlZC5hcHBlbmQoZm91bmRbbmFtZV0pCgogICAgZm9yIG5hbWUg
aW4gZm91bmQ6CiAgICAgICAgYWRkKG5hbWUpCiAgICByZXR1cm4gb3JkZXJlZAoKCmRlZiBub3Jt
YWwobmFtZTogc3RyKSAtPiBzdHI6CiAgICByZXR1cm4gcmUuc3ViKHIiWy1fLl0rIiwgIi0iLCBu
YW1lKS5sb3dlcigpCgoKZGVmIGJ5X2NvbmRhKHBhY2thZ2VzOiBMaXN0W1JlY29yZF0pIC0+IFNl
dFtzdHJdOgogICAgIiIiTmFtZXMsIGFzIHBpcCBoYXMgdGhlbSwgb2Ygd2hhdCBjb25kYSdzIHBh
Y2thZ2VzIGJyb3VnaHQuIiIiCiAgICBmaWxlcyA9IFtmaWxlIGZvciBwYWNrYWdlIGluIHBhY2th
Z2VzIGZvciBmaWxlIGluIHBhY2thZ2UuZ2V0KCJmaWxlcyIsICgpKV0KICAgIGluZm9zID0gW3Jl
LnNlYXJjaChyIihbXi9dKylcLig/OmRpc3R8ZWdnKS1pbmZvKD86L3wkKSIsIGZpbGUpIGZvciBm
aWxlIGluIGZpbGVzXQogICAgcmV0dXJuIHtub3JtYWwoaW5mby5ncm91cCgxKS5zcGxpdCgiLSIp
WzBdKSBmb3IgaW5mbyBpbiBpbmZvcyBpZiBpbmZvfQoKCmRlZiBwdWJsaWModXJsOiBzdHIpIC0+
IHN0cjoKICAgICIiIkEgcGFja2FnZSdzIGFkZHJlc3Mgd2l0aG91dCB0aGUgcGFzc3dvcmQgb3Ig
dG9rZW4gaXQgd2FzIGZldGNoZWQgd2l0aC4iIiIKICAgIHJldHVybiByZS5zdWIociIvdC9bXi9d
Ky8iLCAiLyIsIHJlLnN1YihyIjovL1teL0BdKkAiLCAiOi8vIiwgdXJsKSwgY291bnQ9MSkKCgpk
ZWYgbWFpbigpIC0+IE5vbmU6CiAgICBwYWNrYWdlcyA9IHJlY29yZHMoUGF0aChzeXMuYXJndlsx
XSkpCiAgICBwbGF0Zm9ybXMgPSBzb3J0ZWQoe3BhY2thZ2VbInN1YmRpciJdIGZvciBwYWNrYWdl
IGluIHBhY2thZ2VzfSAtIHsibm9hcmNoIn0pCiAgICBwcmludCgiIyBUaGlzIGZpbGUgbWF5IGJl
IHVzZWQgdG8gY3JlYXRlIGFuIGVudmlyb25tZW50IHVzaW5nOiIpCiAgICBwcmludCgiIyAkIGNv
bmRhIGNyZWF0ZSAtLW5hbWUgPGVudj4gLS1maWxlIDx0aGlzIGZpbGU+IikKICAgIHByaW50KCIj
IHBsYXRmb3JtOiAiICsgKHBsYXRmb3Jtc1swXSBpZiBwbGF0Zm9ybXMgZWxzZSAibm9hcmNoIikp
CiAgICBwcmludCgiQEVYUExJQ0lUIikKICAgIGZvciBwYWNrYWdlIGluIHBhY2thZ2VzOgogICAg
ICAgIHByaW50KHB1YmxpYyhwYWNrYWdlWyJ1cmwiXSkgKyAoIiMiICsgcGFja2FnZVsibWQ1Il0g
aWYgcGFja2FnZS5nZXQoIm1kNSIpIGVsc2UgIiIpKQogICAga25vd24gPSBieV9jb25kYShwYWNr
YWdlcykKICAgIGZvciBsaW5lIGluIHN5cy5zdGRpbi5yZWFkKCkuc3BsaXRsaW5lcygpOgogICAg
ICAgIGlmIG5vcm1hbChyZS5zcGxpdChyIlsgPUBdIiwgbGluZSlbMF0pIG5vdCBpbiBrbm93bjoK
ICAgICAgICAgICAgcHJpbnQoIiMgcGlwOiAiICsgbGluZSkKCgppZiBfX25hbWVfXyA9PSAiX19t
YWluX18iOgogICAgbWFpbigpCg==
HPCRUN_END
    put specs.txt <<'HPCRUN_END' || return
cHl0aG9uPTMuMTEKbXBpNHB5Cm9wZW5tcGkK
HPCRUN_END
}
build() {
# shellcheck source=/dev/null
. ./conda_make.sh
hpcrun_conda_make
}
record() {
hpcrun_conda_record
}
make() {
    set -euo pipefail
    trap - TERM INT HUP
    export HPCRUN_ENV=$folder
    export HPCRUN_CONDA_EXECUTABLE=/software/bin/micromamba
    export HPCRUN_CONDA_SITE=site
    cd recipe
    build
    record >"$HPCRUN_ENV/packages.txt.new"
    mv -f -- "$HPCRUN_ENV/packages.txt.new" "$HPCRUN_ENV/packages.txt"
}
describe() {
    local size
    size=$(du -sk -- "$folder" | cut -f 1)
    printf '%s,"folder":"%s","machine":"%s","host":"%s","user":"%s","made":"%s","seconds":%d,"bytes":%d,"tool":"%s"}\n' \
        '{"version": 1, "kind": "conda", "key": "eed6c08df721da1d", "title": "conda environment of python=3.11, mpi4py, openmpi"' "${folder##*/}" "$(uname -m)" "$(hostname)" "$(id -un | tr -d '"\\')" \
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
