# Sourced by the scripts that train. fairseq-train goes on from the checkpoint that is in --save-dir, with
# whatever settings that was trained, and at --max-epoch it trains nothing. Here it writes its command
# down beside the checkpoints, in --save-dir/command, with checksums of the data and of the checkpoints and
# caches that it names, and does not go on from those of another command, or from other data.
# What may differ from call to call does not count: which process it is, and how it goes on.

contents() { # PATH[:PATH...] -> a line that differs where a file differs, or a folder's training data
    local path file paths
    IFS=: read -ra paths <<< "$1"
    echo "contents of $1: $(
        for path in "${paths[@]}"; do
            for file in "$path" "$path"/train*.bin "$path"/*.images; do
                if [[ -f $file ]]; then cksum < "$file"; fi
            done
        done | cksum
    )"
}

fairseq-train() {
    local word last= save=checkpoints text=fairseq-train inputs=() gone come difference
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
    for word in "${inputs[@]}"; do text+=$'\n'$(contents "$word"); done
    if [[ -f $save/checkpoint_last.pt && -f $save/command && $(< "$save/command") != "$text" ]]; then
        gone=$(grep -vxF -e "$text" "$save/command") || true
        come=$(grep -vxFf "$save/command" <<< "$text") || true
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
