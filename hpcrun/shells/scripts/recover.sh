# SECONDS FOLDER TOKEN: what became of a submission whose answer was lost.
# "never": it was not begun, and cannot be any more, since the token is taken now.
# "code N": sbatch ended so, and said what follows. "under way": it has not ended yet. "dead": it never will.
seconds=$1 folder=$2 token=$3
umask 077
cd -- "$folder" || { echo "gone"; exit 0; }
if mkdir "sbatch.$token" 2>/dev/null; then
    echo "by another" >"sbatch.$token/tombstone"
    echo "never"
elif [ -e "sbatch.$token/tombstone" ]; then
    echo "never"
elif [ -e "sbatch.$token/code" ]; then
    echo "code $(cat "sbatch.$token/code")"
    cat "sbatch.$token/out"
    cat "sbatch.$token/err" >&2
elif [ -n "$(find "sbatch.$token" -prune -mmin "+$((seconds / 60 + 1))" 2>/dev/null)" ]; then
    echo "dead"
else
    echo "under way"
fi
