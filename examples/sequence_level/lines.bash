# Sourced by translate.sh and prepare.sh: lines of files by their numbers, which count from 0.

# The numbers in a file, or so many: what SUBSET and MORE may be.
numbers() { if [[ $1 =~ ^[0-9]+$ ]]; then seq 0 $(($1 - 1)); else tr -d '\r' < "$1"; fi; }

# The lines of a file whose numbers another one has, in the order of these.
lines() {
    awk -v file="$1" '
        NR == FNR { text[FNR - 1] = $0; next }
        !($0 in text) { print "error: " file " has no line " $0 > "/dev/stderr"; exit 1 }
        { print text[$0] }
    ' "$1" "$2"
}
