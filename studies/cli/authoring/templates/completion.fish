# Completion of `ablate` in fish. Once:  ablate completion fish > ~/.config/fish/completions/ablate.fish
function __ablate_completion
    set -l program (commandline -opc)[1]
    set -l line (commandline -cp | string collect)
    for answer in (env ABLATE_LINE="$line" _ABLATE_COMPLETE=fish_complete $program 2>/dev/null)
        set -l parts (string split -m 2 \t -- $answer)
        switch $parts[1]
            case dir
                __fish_complete_directories (commandline -ct)
            case file
                __fish_complete_path (commandline -ct)
            case plain
                string join \t -- $parts[2..-1]
        end
    end
end
complete --no-files --keep-order --command ablate --arguments "(__ablate_completion)"
