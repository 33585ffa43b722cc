stand() { # WANTED FOLDER: how it is with an environment: one word and what goes with it
    # Opened, so that a network file system looks again.
    ls -- "${1%/*}" >/dev/null 2>&1
    if [ -e "$1/environment.json" ]; then
        printf 'ready %s\n' "$(readlink -- "$1")"
    elif [ -n "$2" ] && [ -e "${1%/*}/$2/failed" ]; then
        printf 'failed %s %s\n' "$2" "$(cat -- "${1%/*}/$2/failed")"
    elif [ -L "$1.lock" ]; then
        maker=$(readlink -- "$1.lock")
        : <"${1%/*}/$maker/beat"
        printf 'building %s %s\n' "$maker" "$(stat -c %y -- "${1%/*}/$maker/beat" | tr ' ' _)"
    else
        printf 'none\n'
    fi 2>/dev/null
}
