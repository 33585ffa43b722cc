# FILE: take a run's secrets away, and what is left of an attempt to write them.
rm -f -- "$1" "$1".*
