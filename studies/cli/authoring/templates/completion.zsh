#compdef ablate
# Completion of `ablate` in zsh. In ~/.zshrc, after compinit:  eval "$(ablate completion zsh)"
_ablate() {
    local type value help
    local -a closed closed_shown open open_shown
    while IFS=$'\t' read -r type value help; do
        case $type in
            dir) _files -/ ;;
            file) _files ;;
            plain)
                # A value follows an equals sign: no space after it.
                if [[ $value == *= ]]; then
                    open+=("$value")
                    open_shown+=("$value${help:+  -- $help}")
                else
                    closed+=("$value")
                    closed_shown+=("$value${help:+  -- $help}")
                fi
                ;;
        esac
    done < <(
        ABLATE_LINE="${(j: :)words[1,CURRENT]}" _ABLATE_COMPLETE=zsh_complete "${words[1]}" 2>/dev/null
    )
    (( $#closed )) && compadd -l -V closed -d closed_shown -a closed
    (( $#open )) && compadd -l -S '' -V open -d open_shown -a open
    return 0
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _ablate "$@"
else
    compdef _ablate ablate
fi
