# fish completion for handover(1). It asks the program itself, which knows its commands and the daemons that run.

function __handover_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    for line in (command $before[1] __complete -- $before[2..-1] $current 2>/dev/null </dev/null)
        if test "$line" = :files
            __fish_complete_path $current
        else
            echo -- $line
        end
    end
end

complete -c handover -f -a '(__handover_complete)'
