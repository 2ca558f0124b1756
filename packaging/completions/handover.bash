# bash completion for handover(1). It asks the program itself, which knows its commands and the daemons that run.

_handover() {
    local words=() count=-1 rest=${COMP_LINE:0:COMP_POINT} piece='' prefix='' i

    # Bash splits words at = and : as well; what stands together in the line is one word.
    for (( i = 0; i <= COMP_CWORD; i++ )); do
        if (( i == 0 )) || [[ $rest == [[:space:]]* ]]; then
            rest=${rest#"${rest%%[![:space:]]*}"}
            (( count += 1 ))
            words[count]=''
        fi
        piece=${COMP_WORDS[i]}
        piece=${piece:0:${#rest}}
        rest=${rest:${#piece}}
        prefix=${words[count]}
        words[count]+=$piece
    done
    if [[ $piece == [=:] ]]; then
        prefix=${words[count]}
        piece=''
    fi

    local value help
    COMPREPLY=()
    while IFS=$'\t' read -r value help; do
        if [[ $value == :files ]]; then
            compopt -o filenames 2>/dev/null
            while IFS= read -r value; do
                COMPREPLY+=("$value")
            done < <(compgen -f -- "$piece")
        else
            COMPREPLY+=("${value#"$prefix"}")
        fi
    done < <("$1" __complete -- "${words[@]:1}" 2>/dev/null </dev/null)
}

complete -F _handover handover
