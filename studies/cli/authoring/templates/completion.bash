# Completion of `ablate` in bash. In ~/.bashrc:  eval "$(ablate completion bash)"
_ablate_completion() {
    local type value help quoted
    COMPREPLY=()
    while IFS=$'\t' read -r type value help; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                printf -v quoted '%q' "$value"
                COMPREPLY+=("$quoted")
                # A value follows.
                [[ $value == *= ]] && compopt -o nospace
                ;;
        esac
    done < <(
        ABLATE_LINE="${COMP_LINE:0:COMP_POINT}" ABLATE_BREAKS="$COMP_WORDBREAKS" _ABLATE_COMPLETE=bash_complete \
            "$1" 2>/dev/null
    )
}
complete -o nosort -F _ablate_completion ablate
