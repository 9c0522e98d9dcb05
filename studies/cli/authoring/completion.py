"""Command that prints the completion script of a shell, and the protocol between those scripts and this program.

A script calls ``ablate`` with ``_ABLATE_COMPLETE=bash_complete``, and the line up to the cursor in ``ABLATE_LINE``.
The answer is a line per offer: ``plain``, ``file`` or ``dir``, the word, and a help text, with tabs between them.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any, ClassVar

import click
from click.shell_completion import CompletionItem, ShellComplete, add_completion_class

from studies.cli.common.options import format_examples, json_option
from studies.console.tables import print_result

TEMPLATES_FOLDER = Path(__file__).parent / "templates"
SHELLS = ("bash", "zsh", "fish")


class LineCompletion(ShellComplete):
    """Completion of the last word of a command line, which the shell gives as it was typed."""

    source_template = ""  # `ablate completion` prints a file instead

    def get_completion_args(self) -> tuple[list[str], str]:
        """Split the line up to the cursor into finished words, without the program's name, and the last one."""
        words, last = split_line(os.environ.get("ABLATE_LINE", ""))
        self.last_word = last
        return words[1:], last

    def format_completion(self, item: CompletionItem) -> str:
        """Format an offer as a line."""
        help_text = (item.help or "").replace("\t", " ").replace("\n", " ")
        return f"{item.type}\t{self.complete_word(str(item.value))}\t{help_text}".rstrip("\t")

    def complete_word(self, value: str) -> str:
        """The whole word for a value: click leaves out the option in ``--protocol=digits``."""
        option, equals, _ = self.last_word.partition("=")
        is_value_alone = equals and option.startswith("--") and not value.startswith(option)
        return f"{option}={value}" if is_value_alone else value


class BashCompletion(LineCompletion):
    """Completion in bash, which replaces only what follows the last character that breaks words, such as ``=``."""

    name: ClassVar[str] = "bash"

    def complete_word(self, value: str) -> str:
        """The part of a word that bash replaces."""
        word = super().complete_word(value)
        breaks = [character for character in os.environ.get("ABLATE_BREAKS", "=:") if character in "=:"]
        start = max((self.last_word.rfind(character) for character in breaks), default=-1) + 1
        return word[start:] if word.startswith(self.last_word[:start]) else word


class ZshCompletion(LineCompletion):
    """Completion in zsh."""

    name: ClassVar[str] = "zsh"


class FishCompletion(LineCompletion):
    """Completion in fish."""

    name: ClassVar[str] = "fish"


for completion_class in (BashCompletion, ZshCompletion, FishCompletion):
    add_completion_class(completion_class)  # in place of click's own, which split no word at an equals sign


def split_line(line: str) -> tuple[list[str], str]:
    """Split a command line into its finished words and the last one, which may be empty or have an open quote."""
    lexer: Any = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:  # an open quote: what was read of the last word
        return words, lexer.token
    if not words or line[-1:].isspace():
        return words, ""
    return words[:-1], words[-1]


@click.command(
    epilog=format_examples(
        'eval "$(ablate completion bash)"                                   # this shell, or in ~/.bashrc',
        'eval "$(ablate completion zsh)"                                    # in ~/.zshrc, after compinit',
        "ablate completion fish > ~/.config/fish/completions/ablate.fish",
    )
)
@click.argument("shell", type=click.Choice(SHELLS))
@json_option
def completion(shell: str, as_json: bool) -> None:
    """Print the script that completes commands in a shell.

    The Tab key then completes commands and options, and the names of ablations, protocols, networks, studies,
    arms and settings, with the values that a setting admits.
    """
    script = (TEMPLATES_FOLDER / f"completion.{shell}").read_text(encoding="utf-8")
    if as_json:
        print_result("completion", {"shell": shell, "script": script})
    else:
        click.echo(script, nl=False)


COMMANDS = (completion,)
