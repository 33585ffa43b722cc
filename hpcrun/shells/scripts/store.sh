# The snapshots that are there, in the store or, where there is no git, as trees.
same() { # ROOT EXPECTED
    [ "$1" = "$2" ] || { printf '%s\n' "$1"; exit 93; }
}
private_git() {
    GIT_DIR=$store GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 HOME=$store XDG_CONFIG_HOME=$store \
        GIT_TERMINAL_PROMPT=0 LC_ALL=C git "$@"
}
missing() { # FOLDER: what can be used to unpack one, and those that are there
    for tool in xz gzip cat; do
        ! command -v "$tool" >/dev/null 2>&1 || printf 'with %s\n' "$tool"
    done
    (cd -- "$1" 2>/dev/null && ls -t | sed -n '/^[0-9a-f]\{40,64\}$/p' | head -n 30)
    exit 94
}
look() {
    if ! [ -e "$store/have/$tree" ] || ! private_git cat-file -e "$tree^{tree}" 2>/dev/null; then
        missing "$store/have"
    fi
}
