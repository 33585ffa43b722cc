# SECONDS FOLDER TOKEN COMMAND...: submit, once for this token, whatever becomes of the connection.
# Ends with sbatch's own code; 91: somebody has the token already; 92: the run's folder is gone.
seconds=$1 folder=$2 token=$3
shift 3
umask 077
cd -- "$folder" || exit 92
mkdir "sbatch.$token" 2>/dev/null || exit 91
limited "$seconds" "$@" >"sbatch.$token/out" 2>"sbatch.$token/err" </dev/null
code=$?
# The answer is written down before anybody is told, and whole or not at all.
printf '%s\n' "$code" >"sbatch.$token/code.new" && mv "sbatch.$token/code.new" "sbatch.$token/code"
cat "sbatch.$token/out"
cat "sbatch.$token/err" >&2
exit "$code"
