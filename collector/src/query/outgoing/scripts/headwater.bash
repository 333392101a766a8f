# Completion of headwater for bash 4.4 or newer: asks the program, which asks the lake.
_headwater() {
    local word
    COMPREPLY=()
    while IFS=$'\t' read -r word _; do
        # Bash holds what stands before a = or : apart, so it must not be given again.
        if [[ ${COMP_WORDS[COMP_CWORD]} != --*=* ]]; then word=${word#--*=}; fi
        [[ -n $word ]] && COMPREPLY+=("$word")
    done < <("${COMP_WORDS[0]}" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -o nosort -F _headwater headwater
