# After "root=": the ids of runs on standard input. What there is to bring home of each, as records that end in
# NUL, their fields in tabs: "R<id>"; "G<id>" where the run's folder is gone; then of every file "f<size>
# <mtime> <name>", "u" in its place if it may not be read, of every link "l<size> <mtime> <name> <where it
# leads>", names from ROOT/runs. Where find cannot print, no links and no names with line breaks, and where
# there is no stat either, "c<crc> <size> <name>". What find says of its troubles goes to standard error.
LC_ALL=C
export LC_ALL
cd -- "$root/runs" || exit 95
broken='*
*'
if find . -prune -printf '' 2>/dev/null; then
    list() {
        find "$@" -type f -readable -printf 'f%s\t%T@\t%p\0' -o -type f -printf 'u%s\t%T@\t%p\0' \
            -o -type l -printf 'l%s\t%T@\t%p\t%l\0'
    }
elif stat -c %Y . >/dev/null 2>&1; then
    list() {
        find "$@" -type f ! -path "$broken" -exec stat -c 'f%s	%Y	%n' {} + | tr '\n' '\0'
    }
elif cksum </dev/null >/dev/null 2>&1; then
    list() {
        find "$@" -type f ! -path "$broken" -exec cksum {} + |
            sed -e 's/^\([0-9]*\) \([0-9]*\) /c\1	\2	/' | tr '\n' '\0'
    }
else
    echo 'there is neither GNU find, nor stat, nor cksum' >&2
    exit 96
fi
while IFS= read -r run; do
    if [ ! -d "$run" ] || [ -L "$run" ]; then
        printf 'G%s\0' "$run"
        continue
    fi
    printf 'R%s\0' "$run"
    set --
    for top in code/outputs code/logs user_logs system_logs metrics results; do
        # A link in the place of a folder is told of, and what is behind it is nobody's here.
        [ -L "$run/${top%%/*}" ] && top=${top%%/*}
        if [ -e "$run/$top" ] || [ -L "$run/$top" ]; then set -- "$@" "$run/$top"; fi
    done
    [ $# -eq 0 ] || list "$@"
done
exit 0
