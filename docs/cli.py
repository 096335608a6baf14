"""`python -m docs.cli`: writes docs/cli.md, all commands of `slipway`, from the parser that reads them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from unittest import mock

PAGE = Path(__file__).with_name("cli.md")
SOURCE = "slipway/cli/parser.py"


def page(build: Callable[[], argparse.ArgumentParser]) -> str:
    """The page of a parser that `build` makes; nothing in it depends on who makes it, or where."""
    with mock.patch.dict(os.environ, {"SUDO_USER": "whoever types it"}):
        root = build()
    commands = next(action for action in root._actions if isinstance(action, argparse._SubParsersAction))
    # Commands without a help text are old names, which only old controllers type.
    shown = [(choice.dest, commands.choices[choice.dest]) for choice in commands._choices_actions]
    shared = _shared(parser for _, parser in shown)
    lines = [f"# The command `{root.prog}`", "", f"<!-- Made from {SOURCE} by `make docs`; a test compares them. -->"]
    lines += ["", root.description or "", *_epilog(root.epilog or "")]
    lines += [
        "",
        "## Options of every command",
        "",
        *_table(root, (), hidden=(argparse._SubParsersAction,), more=shared),
    ]
    for name, parser in shown:
        lines += [
            "",
            f"## {name}",
            "",
            _sentence(parser.description or ""),
            "",
            f"    {_usage(root.prog, name, parser)}",
        ]
        table = list(_table(parser, [_name(action) for action in shared]))
        lines += ["", *table] if table else []
    return "\n".join(lines) + "\n"


def _shared(parsers: Iterable[argparse.ArgumentParser]) -> list[argparse.Action]:
    """The options that all of the parsers have, with the same text."""
    first, *others = parsers
    return [
        action
        for action in _arguments(first)
        if action.option_strings and all((_name(action), action.help) in _texts(other) for other in others)
    ]


def _texts(parser: argparse.ArgumentParser) -> set[tuple[str, str | None]]:
    return {(_name(action), action.help) for action in _arguments(parser)}


def _arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """What may be typed: first the words in their order, then the options."""
    actions = [
        action
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction) and action.help is not argparse.SUPPRESS
    ]
    return sorted(actions, key=lambda action: bool(action.option_strings))


def _epilog(text: str) -> Iterator[str]:
    """The exit codes, "  0  done" a line under a heading, as a table."""
    heading, *rows = [line.strip() for line in text.strip().splitlines()]
    yield from ("", f"## {heading.rstrip(':').capitalize()}", "", "| code | meaning |", "| --- | --- |")
    for row in rows:
        code, _, meaning = row.partition(" ")
        yield f"| {code} | {meaning.strip()} |"


def _table(
    parser: argparse.ArgumentParser,
    without: Iterable[str],
    hidden: tuple[type[argparse.Action], ...] = (),
    more: Iterable[argparse.Action] = (),
) -> Iterator[str]:
    left_out = set(without)
    actions = [
        action for action in _arguments(parser) if not isinstance(action, hidden) and _name(action) not in left_out
    ]
    rows = [f"| `{_name(action)}` | {_meaning(action)} |" for action in [*actions, *more]]
    if rows:
        yield from ("| | |", "| --- | --- |", *rows)


def _usage(program: str, name: str, parser: argparse.ArgumentParser) -> str:
    """What is typed, without the options that every command has; either of two that exclude each other."""
    groups = {id(action): group for group in parser._mutually_exclusive_groups for action in group._group_actions}
    parts, told = [program, name, "[OPTION ...]"], set[int]()
    for action in _arguments(parser):
        group = groups.get(id(action))
        if action.option_strings and not action.required and group is None:
            continue
        if group is not None:
            if id(group) not in told:
                told.add(id(group))
                parts.append(f"[{' | '.join(_name(each) for each in group._group_actions)}]")
        else:
            parts.append(f"[{_name(action)}]" if action.nargs == "?" else _name(action))
    return " ".join(parts)


def _name(action: argparse.Action) -> str:
    """An option with what follows it, or the word that stands for a positional argument."""
    value = str(action.metavar or action.dest.upper())
    if action.choices is not None:
        value = "{" + ",".join(str(choice) for choice in action.choices) + "}"
    if not action.option_strings:
        return value
    name = action.option_strings[-1]
    return name if action.nargs == 0 else f"{name} {value}"


def _meaning(action: argparse.Action) -> str:
    parts = [action.help or ""]
    if action.required and action.option_strings:
        parts.append("required")
    if isinstance(action, argparse._AppendAction):
        parts.append("may be repeated")
    if action.default not in (None, False, [], "", argparse.SUPPRESS) and "default" not in (action.help or ""):
        parts.append(f"default: {action.default}")
    return "; ".join(part % {"default": action.default} for part in parts if part).replace("|", "\\|")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def main() -> None:
    """Write the page."""
    from slipway.cli import parser

    PAGE.write_text(page(parser.parser))


if __name__ == "__main__":
    main()
