# After "root=": ROOT RUN SIZE TOKEN MINE, and a file of SIZE bytes on standard input: the call of a function,
# into the folder of its run. 93: root is not ROOT; 95: it cannot be done, or did not come whole.
expected=$1 run=$2 size=$3 token=$4 mine=$5
umask 077
same "$root" "$expected"
folder=$root/runs/$run
[ ! -e "$folder/sbatch.$token" ] || exit 0
if ! mkdir -p "$folder" || ! cat >"$folder/function.pyz.$mine"; then
    echo "hpcrun: cannot write to $folder" >&2
    exit 95
fi
if [ -z "$(find "$folder/function.pyz.$mine" -size "${size}c")" ]; then
    rm -f -- "$folder/function.pyz.$mine"
    echo "hpcrun: the call did not come whole" >&2
    exit 95
fi
mkdir -p "$folder/results" && mv -f -- "$folder/function.pyz.$mine" "$folder/function.pyz" || exit 95
