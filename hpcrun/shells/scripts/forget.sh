# FILE: take a run's secrets away.
rm -f -- "$1"
