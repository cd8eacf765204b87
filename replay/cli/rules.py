"""``replay rules``: which rule files there are, what they say, and whether one of your own is valid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from replay.rules import RuleBook

_HELP = {"help_option_names": ["-h", "--help"]}


@click.group(name="rules", context_settings=_HELP)
def rules() -> None:
    """Show and check the rules of exchanges.

    \b
    Example:
      replay rules list
    """  # noqa: D301 - click reads the escape


@rules.command("list", context_settings=_HELP)
def list_command() -> None:
    """List the rule files that come with the program.

    \b
    Example:
      replay rules list
    """  # noqa: D301 - click reads the escape
    from replay.rules import list_rules

    found = list_rules()
    widest = max(len(rule_file.name) for rule_file in found)
    for rule_file in found:
        click.echo(f"{rule_file.name:<{widest}}  {rule_file.days:<24}  {rule_file.status}")
        click.echo(f"    {rule_file.title}")


@rules.command("show", context_settings=_HELP)
@click.argument("name")
@click.option(
    "--format",
    "output",
    type=click.Choice(["text", "toml", "json"]),
    default="text",
    show_default=True,
    help="text explains each value; toml is the file with its sources; json is what it resolves to.",
)
def show_command(name: str, output: str) -> None:
    """Show the rules NAME: a venue, venue@version, or the path of a TOML file.

    \b
    Examples:
      replay rules show hyperliquid@2023-02
      replay rules show hyperliquid@2023-02 --format toml > mine.toml
    """  # noqa: D301 - click reads the escape
    from replay.rules import load_rules

    book = load_rules(name)
    if output == "toml":
        click.echo(book.text, nl=False)
    elif output == "json":
        import json

        content = {"name": book.name, "sha256": book.sha256, "rules": book.resolved}
        click.echo(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        _explain(book)


@rules.command("check", context_settings=_HELP)
@click.argument("file", type=click.Path())
def check_command(file: str) -> None:
    """Check the rule file FILE and say what it resolves to; exit with 1 if it is not valid.

    \b
    Example:
      replay rules check mine.toml
    """  # noqa: D301 - click reads the escape
    from pathlib import Path

    from replay.loop.policies.registry import QUEUE, named_policy
    from replay.rules import compile_rules, load_file
    from replay.rules.explain import summary

    book = load_file(Path(file))
    plan = compile_rules(book, (), (), accept_assumptions=True)
    if plan.adl is not None and plan.adl.method != QUEUE:
        named_policy(plan.adl.method)
    lines = {
        "holds": _days(book),
        "status": _status(book),
        "breach": book.rules.trigger.when,
        **summary(book, plan),
        "assumptions": str(len(plan.assumptions)),
        "sha256": book.sha256,
    }
    click.echo(f"ok: {book.file} is a valid rule file of {book.rules.venue}")
    for label, value in lines.items():
        click.echo(f"  {label:<12} {value}")


@rules.command("diff", context_settings=_HELP)
@click.argument("first")
@click.argument("second")
@click.option(
    "--format",
    "output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="A table to read, or JSON for programs.",
)
def diff_command(first: str, second: str, output: str) -> None:
    """Print side by side what differs between the rules FIRST and SECOND.

    Tables of tiers are compared by the markets they are for, each as a whole.

    \b
    Examples:
      replay rules diff bybit@2025-09-23 hyperliquid@2025-10-10
      replay rules diff bybit@2025-09-23 mine.toml --format json
    """  # noqa: D301 - click reads the escape
    from replay.rules import load_rules
    from replay.rules.diff import diff

    books = load_rules(first), load_rules(second)
    found = diff(*books)
    if output == "json":
        import json

        click.echo(json.dumps([row._asdict() for row in found], indent=2, ensure_ascii=False))
        return
    if not found:
        click.echo(f"{books[0].name} and {books[1].name} say the same")
        return
    from rich.table import Table

    from replay.cli.console import stdout_console

    table = Table("key", books[0].name, books[1].name)
    for column in table.columns:
        column.overflow = "fold"
    section = None
    for key, mine, theirs in found:
        if section is not None and key.partition(".")[0] != section:
            table.add_section()
        section = key.partition(".")[0]
        table.add_row(key, _shortened(mine), _shortened(theirs))
    stdout_console().print(table)
    same = "" if books[0].sha256 != books[1].sha256 else "; they resolve to the same"
    click.echo(f"{len(found)} difference{'s' if len(found) > 1 else ''}{same}")


_LONGEST = 90


def _shortened(value: str) -> str:
    """Return a value that does not fill the terminal: the whole is in the files and in the JSON."""
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]} ..."


@rules.command("schema", context_settings=_HELP)
def schema_command() -> None:
    """Print the JSON schema of rule files, for the completion and checks of an editor.

    \b
    Example:
      replay rules schema > rules.schema.json
    """  # noqa: D301 - click reads the escape
    import json

    from replay.rules.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


def _explain(book: RuleBook) -> None:
    """Print a rule book value by value, section by section, and what it assumes."""
    from rich.table import Table

    from replay.cli.console import stdout_console
    from replay.rules.explain import explain

    console = stdout_console()
    console.print(f"{book.name}: {book.rules.title}")
    console.print(f"holds {_days(book)}; {_status(book)}\n")
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    shown = None
    for key, value, sentence in explain(book):
        section, _, leaf = key.rpartition(".")
        if not section:
            continue
        if section != shown:
            table.add_row(f"[{section}]")
            shown = section
        table.add_row(f"  {leaf} = {value}", sentence)
    console.print(table)
    console.print(
        "\nassumed, because it is not published:" if book.rules.assumptions else "\nnothing is assumed"
    )
    for sentence in book.rules.assumptions:
        console.print(f"- {sentence}")
    console.print(f"\nfile   {book.file}\nsha256 {book.sha256}", soft_wrap=True)


def _days(book: RuleBook) -> str:
    if book.rules.valid_to is None:
        return f"from {book.rules.valid_from} (UTC)"
    return f"from {book.rules.valid_from} to {book.rules.valid_to} (UTC, both days included)"


def _status(book: RuleBook) -> str:
    if book.rules.status == "draft":
        return "draft: a run needs --accept-assumptions"
    return "final"
