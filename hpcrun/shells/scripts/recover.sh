# SECONDS FOLDER TOKEN: what became of a submission whose answer was lost.
# "never": it was not begun, and cannot be any more, since the token is taken now. "gone": so is the folder.
# "code N": sbatch ended so, and said what follows. "under way": it has not ended yet. "dead": it never will.
seconds=$1 folder=$2 token=$3
umask 077
[ -d "$folder" ] || { echo "gone"; exit 0; }
cd -- "$folder" || exit 95
if mkdir "sbatch.$token" 2>/dev/null; then
    (: >"sbatch.$token/tombstone") || { rmdir "sbatch.$token"; exit 95; }
    echo "never"
elif [ -e "sbatch.$token/tombstone" ]; then
    echo "never"
elif [ -e "sbatch.$token/code" ]; then
    echo "code $(cat "sbatch.$token/code")"
    cat "sbatch.$token/out"
    cat "sbatch.$token/err" >&2
elif [ ! -d "sbatch.$token" ]; then
    echo "hpcrun: cannot write to $folder" >&2
    exit 95
else
    # By two clocks, as those of a site's hosts may differ by some minutes.
    began=$(sed -n '/^[0-9][0-9]*$/p' "sbatch.$token/began" 2>/dev/null)
    if [ -n "$began" ] && [ "$(($(date +%s) - began))" -gt "$((seconds + 300))" ]; then
        echo "dead"
    elif [ -n "$(find "sbatch.$token" -prune -mmin +60 2>/dev/null)" ]; then
        echo "dead"
    else
        echo "under way"
    fi
fi
