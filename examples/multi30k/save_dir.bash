# Sourced by the scripts that train. fairseq-train goes on from the checkpoint that is in --save-dir, with
# whatever settings that was trained, and at --max-epoch it trains nothing. Here it writes its command
# down beside the checkpoints, in --save-dir/command, with checksums of the data and of the checkpoints and
# caches that it names, and does not go on from those of another command, or from other data.
# What may differ from call to call does not count: which process it is, and how it goes on.

contents() { # PATH[:PATH...] -> a line that differs where a file differs, or a folder's training data
    local path file paths first
    IFS=: read -ra paths <<< "$1"
    for path in "${paths[@]}"; do
        for file in "$path" "$path"/train*.bin "$path"/*.images; do
            if [[ -f $file ]]; then cksum < "$file"; fi
        done
    done | { read -r first && echo "contents of $1: $({ echo "$first"; cat; } | cksum)"; }
}

fairseq-train() {
    local word last= save=checkpoints text=fairseq-train inputs=() compared gone come difference
    if [[ ${1:---} != --* ]]; then inputs+=("$1"); fi
    for word in "$@"; do
        case $last in
            --teacher-path | --teacher-cache | --init-from)
                if [[ $word != --* ]]; then inputs+=("$word"); fi ;;
        esac
        if [[ $word == --* ]]; then last=$word; elif [[ $last == --save-dir ]]; then save=$word; fi
        case $last in
            --distributed-rank | --device-id | --local[-_]rank | --restore-file | --continue-once | --reset-*)
                continue ;;
        esac
        if [[ $word == --* ]]; then text+=$'\n'$word; else text+=" $word"; fi
    done
    for word in "${inputs[@]}"; do # what is not there any more, fairseq says if it needs it
        come=$(contents "$word") || come=$(grep -F "contents of $word: " "$save/command" 2> /dev/null) || continue
        text+=$'\n'$come
    done
    compared=$text
    if [[ -f $save/command ]] && ! grep -q '^contents of ' "$save/command"; then # of an earlier version
        compared=$(grep -v '^contents of ' <<< "$text")
    fi
    if [[ -f $save/checkpoint_last.pt && -f $save/command && $(< "$save/command") != "$compared" ]]; then
        gone=$(grep -vxF -e "$compared" "$save/command") || true
        come=$(grep -vxFf "$save/command" <<< "$compared") || true
        difference="${gone:-nothing} became ${come:-nothing}"
        if [[ -z $gone$come ]]; then difference="its options come in another order"; fi
        echo "error: $save has a checkpoint of another command: ${difference//$'\n'/, }. Train in another" \
            "folder (SAVE, or OUT of masked_source.sh), or delete this one; to go on from its checkpoint" \
            "all the same, delete $save/command." >&2
        return 1
    fi
    if [[ -f $save/checkpoint_last.pt && ! -f $save/command ]]; then
        echo "warning: going on from $save/checkpoint_last.pt, and nothing tells by which command it was" \
            "made" >&2
    fi
    mkdir -p "$save"
    echo "$text" > "$save/command"
    command fairseq-train "$@"
}
