# ROOT FOLDER...: take environments away: first the name, so that nobody begins with one that goes.
# Says the folders that are gone.
root=$1
shift
cd -- "$root" || exit 95
for folder; do
    case $folder in */* | .* | *..*) continue ;; esac
    [ -d "$folder" ] && [ ! -L "$folder" ] || continue
    for link in "${folder%%.*}" "${folder%%.*}.lock"; do
        [ "$(readlink -- "$link")" != "$folder" ] || rm -f -- "$link"
    done
    name=${folder%%.*}
    for link in "${name%-*}".job-*; do
        [ "$(readlink -- "$link")" != "$folder" ] || rm -f -- "$link"
    done
    gone=.gone-$folder
    mv -- "$folder" "$gone" && chmod -R u+w -- "$gone" 2>/dev/null
    rm -rf -- "$gone" && printf '%s\n' "$folder"
done
rm -rf -- .gone-*
exit 0
