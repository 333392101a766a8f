#compdef headwater
# Completion of headwater for zsh: asks the program, which asks the lake.
_headwater() {
    local line word meaning
    local -a found
    while IFS= read -r line; do
        word=${line%%$'\t'*}
        meaning=${line#*$'\t'}
        found+=("${word//:/\\:}:${meaning}")
    done < <("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
    _describe -V headwater found -S ''
}
if [ "$funcstack[1]" = "_headwater" ]; then
    _headwater "$@"
else
    compdef _headwater headwater
fi
