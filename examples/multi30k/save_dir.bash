# Sourced by the scripts that train. fairseq-train goes on from the checkpoint that is in --save-dir, with
# whatever settings that was trained, and at --max-epoch it trains nothing. Here it writes its command
# down beside the checkpoints, in --save-dir/command, and does not go on from those of another command.
# What may differ from call to call does not count: which process it is, and how it goes on.

fairseq-train() {
    local word last= save=checkpoints text=fairseq-train gone come difference
    for word in "$@"; do
        if [[ $word == --* ]]; then last=$word; elif [[ $last == --save-dir ]]; then save=$word; fi
        case $last in
            --distributed-rank | --device-id | --local[-_]rank | --restore-file | --continue-once | --reset-*)
                continue ;;
        esac
        if [[ $word == --* ]]; then text+=$'\n'$word; else text+=" $word"; fi
    done
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
