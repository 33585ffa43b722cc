stand() { # WANTED FOLDER: how it is with an environment: one word and what goes with it
    # Opened, so that a network file system looks again.
    ls -- "${1%/*}" >/dev/null 2>&1
    # The lock is looked at first: a builder says how it ended before it lets go of it.
    maker=$(readlink -- "$1.lock")
    if [ -e "$1/environment.json" ]; then
        printf 'ready %s\n' "$(readlink -- "$1")"
    elif [ -n "$2" ] && [ -e "${1%/*}/$2/failed" ]; then
        printf 'failed %s %s\n' "$2" "$(cat -- "${1%/*}/$2/failed")"
    elif [ -n "$maker" ]; then
        cat -- "${1%/*}/$maker/beat" >/dev/null
        beat=$(stat -c %y -- "${1%/*}/$maker/beat" | tr ' ' _)
        wanted_there=
        [ ! -e "${1%/*}/$maker/wanted" ] || wanted_there=" wanted"
        printf 'building %s %s%s\n' "$maker" "${beat:--}" "$wanted_there"
    else
        printf 'none\n'
    fi 2>/dev/null
}
