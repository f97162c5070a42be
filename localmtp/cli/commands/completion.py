"""`localmtp completion`: shell completion."""

from __future__ import annotations

import click

from localmtp.cli import output


@click.command("completion", short_help="Print a script for shell completion.")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print a script that completes commands, options and model names in SHELL.

    \b
        localmtp completion bash >> ~/.bashrc
        localmtp completion zsh >> ~/.zshrc
        localmtp completion fish > ~/.config/fish/completions/localmtp.fish
    """  # noqa: D301 - click reads the character
    from click.shell_completion import get_completion_class

    completion = get_completion_class(shell)
    assert completion is not None
    program = context.find_root().command
    script = completion(program, {}, "localmtp", "_LOCALMTP_COMPLETE").source()
    output.line(script.strip("\n"))
