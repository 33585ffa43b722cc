# SECONDS FOLDER TOKEN COMMAND...: submit, once for this token, whatever becomes of the connection.
# Ends with sbatch's own code; 91: somebody has the token already; 92: the run's folder is gone; 95: nothing can
# be written there. With these three nothing is said on standard output.
seconds=$1 folder=$2 token=$3
shift 3
umask 077
cd -- "$folder" || exit 92
mkdir "sbatch.$token" 2>/dev/null || { [ -d "sbatch.$token" ] && exit 91; exit 95; }
# Where not even these can be written, nothing has been begun: whoever looks later can tell by the tombstone.
if ! date +%s >"sbatch.$token/began" || ! (: >"sbatch.$token/out" && : >"sbatch.$token/err"); then
    mv "sbatch.$token/began" "sbatch.$token/tombstone"
    exit 95
fi
limited "$seconds" "$@" >"sbatch.$token/out" 2>"sbatch.$token/err" </dev/null
code=$?
# The answer is written down before anybody is told, and whole or not at all.
printf '%s\n' "$code" >"sbatch.$token/code.new" && mv "sbatch.$token/code.new" "sbatch.$token/code"
cat "sbatch.$token/out"
cat "sbatch.$token/err" >&2
exit "$code"
