# Completion of headwater for fish: asks the program, which asks the lake.
function __headwater_complete
    set -l words (commandline --tokenize --cut-at-cursor --current-process) (commandline --current-token --cut-at-cursor)
    $words[1] __complete -- $words[2..-1] 2>/dev/null
end
complete --command headwater --no-files --arguments '(__headwater_complete)'
