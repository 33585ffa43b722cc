# PART WHOLE: a folder that is complete gets its name; two that do so at once bring the same.
[ -d "$2" ] && { rm -rf -- "$1"; exit 0; }
mv -- "$1" "$2" || [ -d "$2" ]
