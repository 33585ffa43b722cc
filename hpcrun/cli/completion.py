"""``hpcrun completion SHELL``."""

from __future__ import annotations

import click

from hpcrun.cli.group import Command

VARIABLE = "_HPCRUN_COMPLETE"

# click's own script for bash takes bash's word for where words end, and bash ends them at ':' and '=' too.
# So the word is read off the line, the program is asked as fish asks it (the line, and the word in it), and
# of each answer only what bash holds to be the word ($2) and what follows is given back.
_BASH = """\
_hpcrun_completion() {
    local IFS=$'\\n' line="${COMP_LINE:0:COMP_POINT}" word before answer
    word="${line##*[[:space:]]}"
    before="${word%"$2"}"
    COMPREPLY=()
    for answer in $(_HPCRUN_COMPLETE=fish_complete COMP_WORDS="$line" COMP_CWORD="$word" "$1" 2>/dev/null); do
        case "$answer" in
            dir,*) compopt -o dirnames 2>/dev/null ;;
            file,*) compopt -o default 2>/dev/null ;;
            plain,*)
                answer="${answer#plain,}"
                answer="${answer%%$'\\t'*}"
                COMPREPLY+=("${answer#"$before"}")
                ;;
        esac
    done
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *: ]]; then
        compopt -o nospace 2>/dev/null
    fi
    return 0
}
complete -o nosort -F _hpcrun_completion hpcrun
"""

# click's own script for zsh ends each word with a space; behind @EXPERIMENT: one goes on typing.
_ZSH_ADD = "        compadd -U -V unsorted -a completions\n"
_ZSH_ADD_OPEN = """\
        local -a closed=(${completions:#*:}) open=(${(M)completions:#*:})
        compadd -U -V unsorted -a closed
        compadd -U -V unsorted -S '' -a open
"""


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print what makes a shell complete hpcrun's commands, options, runs and targets.

    \b
    bash, in ~/.bashrc:   eval "$(hpcrun completion bash)"
    zsh, in ~/.zshrc:     eval "$(hpcrun completion zsh)"
    fish, once:
      hpcrun completion fish > ~/.config/fish/completions/hpcrun.fish
    """
    if shell == "bash":
        click.echo(_BASH, nl=False)
        return
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(click.get_current_context().find_root().command, {}, "hpcrun", VARIABLE).source()
    click.echo(script.replace(_ZSH_ADD, _ZSH_ADD_OPEN) if shell == "zsh" else script)
