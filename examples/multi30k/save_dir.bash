# Sourced by the scripts that train. fairseq-train goes on from the checkpoint that is in --save-dir, with
# whatever settings that was trained, and at --max-epoch it trains nothing. Here it writes its command
# down beside the checkpoints, in --save-dir/command, and does not go on from those of another command.

fairseq-train() {
    local word last= save=checkpoints text=fairseq-train gone come difference
    for word in "$@"; do
        if [[ $last == --save-dir ]]; then save=$word; fi
        if [[ $word == --* ]]; then text+=$'\n'$word; else text+=" $word"; fi
        last=$word
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
    mkdir -p "$save"
    echo "$text" > "$save/command"
    command fairseq-train "$@"
}
