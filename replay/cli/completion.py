"""``replay completion``: the script that lets a shell complete commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that lets SHELL complete the commands and options of replay.

    \b
    Examples:
      eval "$(replay completion bash)"                  # in ~/.bashrc
      eval "$(replay completion zsh)"                   # in ~/.zshrc
      replay completion fish > ~/.config/fish/completions/replay.fish
    """  # noqa: D301 - click reads the escape
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click does not complete for {shell}")
    click.echo(kind(ctx.find_root().command, {}, "replay", "_REPLAY_COMPLETE").source())
