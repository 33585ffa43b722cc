# After "root=": ROOT RUN TREE HOW SCRIPT SECRETS CONFIG ATTRIBUTES: make a run's folder complete.
# HOW: "store": the snapshot is there; "pack": it comes on standard input; "copy": rsync has brought it.
# 93: root is not ROOT; 94: the snapshot is not there, those that are follow; 95: it cannot be done;
# 96: there is no git.
expected=$1 run=$2 tree=$3 how=$4 script=$5 secrets=$6 config=$7 attributes=$8
umask 077
[ "$root" = "$expected" ] || { printf '%s\n' "$root"; exit 93; }
folder=$root/runs/$run store=$root/snapshots.git
fail() { printf 'hpcrun: %s\n' "$1" >&2; exit 95; }
private_git() {
    GIT_DIR=$store GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 HOME=$store XDG_CONFIG_HOME=$store \
        GIT_TERMINAL_PROMPT=0 LC_ALL=C git "$@"
}
put() { # FILE TEXT: whole or not at all
    printf '%s' "$2" >"$1.new" && mv -f -- "$1.new" "$1" || fail "cannot write $1"
}
open_store() {
    command -v git >/dev/null 2>&1 || exit 96
    [ -e "$store/config" ] && return
    mkdir -p "$store/objects/pack" "$store/refs/heads" "$store/info" "$store/have" || fail "cannot make $store"
    put "$store/HEAD" 'ref: refs/heads/none
'
    put "$store/info/attributes" "$attributes"
    put "$store/config" "$config"
}
check_out() {
    rm -rf -- "$folder/code.new"
    mkdir -p "$folder/code.new" || fail "cannot make $folder"
    GIT_INDEX_FILE=$folder/index.new GIT_WORK_TREE=$folder/code.new
    export GIT_INDEX_FILE GIT_WORK_TREE
    if ! (cd "$folder/code.new" && private_git read-tree -m -u "$tree") ||
        [ "$(private_git write-tree)" != "$tree" ]; then
        rm -f -- "$store/have/$tree"
        fail "cannot write the snapshot into $folder/code"
    fi
    rm -f -- "$folder/index.new"
}
mkdir -p "$root/runs" || fail "cannot make $root/runs"
if [ ! -e "$folder/job.sh" ]; then
    case $how in
        copy)
            [ -d "$root/trees/$tree" ] || exit 94
            rm -rf -- "$folder/code.new"
            mkdir -p "$folder" && cp -R -p -P -- "$root/trees/$tree" "$folder/code.new" ||
                fail "cannot copy the snapshot into $folder/code"
            ;;
        *)
            open_store
            if [ "$how" = pack ]; then
                private_git index-pack --stdin --fix-thin >/dev/null || fail "the snapshot did not come whole"
                : >"$store/have/$tree" || fail "cannot write to $store"
            fi
            if ! [ -e "$store/have/$tree" ] || ! private_git cat-file -e "$tree^{tree}" 2>/dev/null; then
                ls -t "$store/have" | head -n 50
                exit 94
            fi
            check_out
            ;;
    esac
    rm -rf -- "$folder/code" # half of a working copy, or one that was never used
    mv -- "$folder/code.new" "$folder/code" || fail "cannot make $folder/code"
fi
for name in code/outputs code/logs user_logs system_logs metrics; do
    mkdir -p "$folder/$name" || fail "cannot make $folder/$name"
done
# Slurm would make it by the umask that sbatch is called with, and appends to one that is there.
[ -e "$folder/system_logs/job.txt" ] || : >"$folder/system_logs/job.txt" || fail "cannot write to $folder"
if [ -n "$secrets" ] && [ ! -e "$folder/secrets.sh" ]; then
    put "$folder/secrets.sh" "$secrets"
fi
put "$folder/job.sh" "$script" # last: it says that the rest is there
