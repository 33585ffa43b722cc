# ROOT KEY RUN SLOT NAME PART [whole]: files of another run, which several runs share as ROOT/given/KEY, as
# given/SLOT of RUN. Says "here" if that is so now, and "send" if the files are to come to PART first, a folder
# whose name nobody else uses, where NAME will be; with "whole" it has all of them, and gets its name.
# ROOT/given/KEY/users has a file for each run that has them: the last one to go takes them along (remove.sh).
# 95: it cannot be done.
umask 077
root=$1 key=$2 run=$3 slot=$4 name=$5 part=$6
whole=$root/given/$key own=$root/runs/$run/given
fail() { printf 'hpcrun: %s\n' "$1" >&2; exit 95; }
mkdir -p -- "$root/given" "$own" || fail "cannot make $own"
if [ "${7-}" = whole ]; then
    { mkdir -p -- "$part/users" && (: >"$part/users/$run"); } || fail "cannot write to $part"
    named "$part" "$whole" || rm -rf -- "$part"
fi
if (: >"$whole/users/$run") 2>/dev/null && [ -d "$whole/files" ]; then
    [ -L "$own/$slot" ] || ln -s "../../../given/$key/files" "$own/$slot" || fail "cannot write to $own"
    printf 'here\n'
    exit 0
fi
[ "${7-}" != whole ] || fail "cannot make $whole"
find "$root/given" -name '*.part.*' -prune -mtime +14 -exec rm -rf -- {} + # of transfers that were given up
folder=$part/files/$name
{ mkdir -p -- "${folder%/*}" && rm -f -- "$part/.seen" && (: >"$part/.seen"); } || fail "cannot make $part"
printf 'send\n'
