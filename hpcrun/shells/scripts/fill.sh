# After "root=": ROOT RUN TREE HOW TOOL TOKEN MINE SCRIPT SECRETS CONFIG ATTRIBUTES [ENVIRONMENT [LIB MODULES]]:
# make a run's folder complete.
# HOW: "store": the snapshot is there; "pack", "all": it comes on standard input, as what those that are there
# lack, or as a whole, for TOOL to unpack; "copy": rsync has brought it. MINE: a word that nobody else has.
# SECRETS: "-" if they have to be there already. ENVIRONMENT: what has to be there as well, or empty.
# LIB: the name that ROOT/lib keeps for what goes into its lib/; MODULES: all of that as a gzipped tar in base64, or
# empty where it is there already.
# 89: that is not there; 90: all is there but the environment;
# 93: root is not ROOT; 94: the snapshot is not there, see missing; 95: it cannot be done;
# 96: there is no git; 97: a variable is not set; 98: the secrets are not there.
expected=$1 run=$2 tree=$3 how=$4 tool=$5 token=$6 mine=$7
shift 7
script=$1 secrets=$2 config=$3 attributes=$4 environment=${5-}
shift 4
[ "$#" -eq 0 ] || shift
umask 077
same "$root" "$expected"
folder=$root/runs/$run store=$root/snapshots.git trees=$root/trees new=$root/runs/$run/.code.$mine
fail() { printf 'hpcrun: %s\n' "$1" >&2; exit 95; }
put() { # FILE TEXT: whole or not at all
    # By way of cat, which says why it cannot write.
    if ! printf '%s' "$2" | cat >"$1.$mine" || ! mv -f -- "$1.$mine" "$1"; then
        rm -f -- "$1.$mine"
        fail "cannot write $1"
    fi
}
late() { # what was sent on its way by a client who is no more is not to undo what others have done since
    [ ! -e "$folder/sbatch.$token" ] || exit 0
}
open_store() {
    command -v git >/dev/null 2>&1 || exit 96
    mkdir -p "$store/objects/pack" "$store/refs/heads" "$store/info" "$store/have" || fail "cannot make $store"
    [ -s "$store/HEAD" ] || put "$store/HEAD" 'ref: refs/heads/none
'
    [ -s "$store/info/attributes" ] || put "$store/info/attributes" "$attributes"
    [ -s "$store/config" ] || put "$store/config" "$config"
}
take_in() {
    find "$store/objects/pack" -name 'tmp_*' -mtime +1 -exec rm -f -- {} + # of transfers that were cut off
    said=$(if [ "$tool" = cat ]; then cat; else "$tool" -dc; fi | private_git index-pack --stdin --fix-thin 2>&1 >/dev/null) || {
        case $how,$said in
            pack,*"unresolved delta"*) rm -rf -- "$store/have"; missing "$store/have" ;; # what it builds on was lost
        esac
        printf '%s\n' "$said" >&2
        fail "the snapshot did not come whole"
    }
    (: >"$store/have/$tree") || fail "cannot write to $store"
}
check_out() {
    look
    mkdir -p "$new" || fail "cannot make $folder"
    GIT_INDEX_FILE=$folder/.index.$mine GIT_WORK_TREE=$new
    export GIT_INDEX_FILE GIT_WORK_TREE
    if (cd -- "$new" && private_git read-tree -m -u "$tree") && [ "$(private_git write-tree)" = "$tree" ]; then
        return
    fi
    if [ "$how" != all ] && ! private_git rev-list --objects --quiet "$tree" 2>/dev/null; then
        rm -rf -- "$store/have" # a file of the store is lost: none of them can be counted on
        missing "$store/have"
    fi
    rm -f -- "$store/have/$tree"
    return 1
}
copy() {
    [ -d "$trees/$tree" ] || missing "$trees"
    mkdir -p "$folder" && cp -R -P -- "$trees/$tree" "$new" || return
    [ "$(sum_of "$new")" != "$(cat "$trees/$tree.sum")" ] || return 0
    mv -- "$trees/$tree" "$trees/.$mine" 2>/dev/null # something in it was lost, or changed
    rm -rf -- "$trees/.$mine" "$new"
    missing "$trees"
}
keep() { # KEPT MODULES: what the runs of this site bring along, under the name that it has there
    [ ! -d "$1" ] || return 0
    [ -n "$2" ] || exit 89
    half=$root/lib/.$mine
    if ! mkdir -p "$half" || ! printf '%s' "$2" | base64 -d | gzip -dc | (cd -- "$half" && tar -xmf -) ||
        ! sum_of "$half" >"$half.sum" || ! mv -f -- "$half.sum" "$1.sum"; then
        rm -rf -- "$half" "$half.sum"
        fail "cannot write to $root/lib"
    fi
    named "$half" "$1" || rm -rf -- "$half" # another was first
}
bring() { # KEPT MODULES: a copy of it for this run, whole or not at all
    own=$folder/.lib.$mine
    for again in yes no; do
        keep "$1" "$2"
        cp -R -P -- "$1" "$own" && [ "$(sum_of "$own")" = "$(cat "$1.sum")" ] && named "$own" "$folder/lib"
        rm -rf -- "$folder"/.lib.* # also of those who were cut off
        [ ! -d "$folder/lib" ] || return
        [ "$again" = no ] || rm -rf -- "$1" # something in it was lost, or changed
    done
    fail "cannot write $folder/lib"
}
mkdir -p "$root/runs" || fail "cannot make $root/runs"
late
if [ ! -d "$folder/code" ]; then # one that has its name is complete
    trap 'rm -rf -- "$new" "$folder/.index.$mine"*' EXIT
    if [ "$how" = copy ]; then
        copy
    else
        open_store
        case $how in pack | all) take_in ;; esac
        check_out
    fi && named "$new" "$folder/code"
    [ -d "$folder/code" ] || fail "cannot write the snapshot into $folder/code"
    trap - EXIT
    rm -rf -- "$folder"/.code.* "$folder"/.index.* # of those who were cut off
fi
for name in code/outputs code/logs user_logs system_logs metrics; do
    mkdir -p "$folder/$name" || fail "cannot make $folder/$name"
done
# Slurm would make it by the umask that sbatch is called with, and appends to one that is there.
[ -e "$folder/system_logs/job.txt" ] || (: >"$folder/system_logs/job.txt") || fail "cannot write to $folder"
late
case $secrets in
    "") ;;
    -) [ -e "$folder/secrets.sh" ] || exit 98 ;;
    *) [ -e "$folder/secrets.sh" ] || put "$folder/secrets.sh" "$secrets" ;;
esac
[ -z "${1-}" ] || [ -d "$folder/lib" ] || bring "$root/lib/$1" "$2"
put "$folder/job.sh" "$script"
[ -z "$environment" ] || [ -e "$environment-$(uname -m)/environment.json" ] || exit 90
