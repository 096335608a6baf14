"""`python -m docs.troubleshooting`: writes docs/troubleshooting.md, every message that refuses or fails, from the code.

A message is a text of the code that an error is made of, that is yielded, or returned as a sentence, or that an
assertion of a role fails with. What stands in its place when it is shown is written as `<name>`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("troubleshooting.md")
INTRODUCTION = """\
# Troubleshooting

<!-- Made from the code by `make docs`; a test compares them. -->

Every message with which Slipway refuses or fails, by its first words. `<name>` stands for what differs. A message says
what is wrong and what to type; some have more words here. Nothing is changed by a run that is refused. When a deploy
fails, the release before serves as before, and the message says so.

`slipway status` on the host shows what is live, `journalctl -u slipway-<app>` what a deployment printed, and
`journalctl -u '<app>@*'` what the app did. Options: [command line](cli.md), [settings](settings.md).
"""
# Where a message can come from. A file belongs to the first section that names it.
SECTIONS = (
    ("What was typed", "Any playbook, before it looks at a host.",
     ("filter_plugins/given.py", "playbooks/vars", "playbooks/tasks")),
    ("The settings of the apps", "Any playbook; on the controller, and by the engine when it reads them.",
     ("filter_plugins", "roles/app/filter_plugins", "roles/app/module_utils", "slipway/base/settings.py",
      "slipway/base/sandbox.py", "slipway/observers/hook_settings.py")),
    ("A host, before site.yml changes anything", "All of them come at once, one message a host.",
     ("playbooks/look", "action_plugins", "roles/postgresql", "roles/mariadb", "roles/redis", "roles/nginx",
      "roles/host", "roles/access", "roles/app", "site.yml")),
    ("Certificates", "site.yml, and renewals.", ("roles/certificate",)),
    ("The commit", "deploy.yml, on the controller and the host.",
     ("slipway/release/git.py", "slipway/records/versions.py", "slipway/release/source.py")),
    ("The build of a release", "deploy.yml, and rollback.yml to a release that was pruned.", ("slipway/release",)),
    ("The database", "deploy.yml, rollback.yml and `slipway status`.", ("slipway/schema",)),
    ("The start of a release and its traffic", "deploy.yml and rollback.yml.", ("slipway/slot",)),
    ("Deployments", "deploy.yml, rollback.yml and commands on the host.",
     ("slipway/deployment", "slipway/cli", "slipway/records", "roles/release", "deploy.yml", "rollback.yml",
      "run.yml", "status.yml")),
    ("Backups and drills", "backup.yml, drill.yml, their timers, and site.yml when it prepares them.",
     ("slipway/backup", "roles/backup", "backup.yml", "drill.yml")),
    ("Hooks and the Logbook", "They change nothing about a deployment.", ("slipway/observers",)),
    ("The engine itself", "Any command.", ("slipway",)),
)  # fmt: skip
# More words, by the beginning of a message.
NOTES = {
    "Slipway has a defect": "The file has places in the code only. The message of the error is left out, as it may "
    "have a password in it. The deployment was undone as after any failure.",
    "alembic cannot read the release's migrations": "alembic runs as `<app>_migrate`, with the variables of the app, "
    "in the release's directory. Try `alembic history` in a checkout with the same variables.",
    "PostgreSQL does not answer the migration role": "The line of psql above it says why. On a host with its own "
    "PostgreSQL: `systemctl status postgresql`, and whether connections are left.",
    "A migration failed": "Mend it in a new version and deploy that. What it has left is named, and the next attempt "
    "must expect it: see [migrations](migrations.md).",
    "<what> failed: <reason>": "The last lines of uv stand above it. See [releases](releases.md).",
}  # fmt: skip
_LEAST_WORDS = 4
_SKIPPED = {"slipway/release/alembic_question.py", "slipway/base/crash.py"}  # no message: a traceback, a program


@dataclass(frozen=True, order=True)
class Message:
    """A message as a template, and the file that it stands in, from the project's directory."""

    text: str
    file: str


@cache
def messages() -> tuple[Message, ...]:
    """All messages of the code, each once in a file."""
    found = {Message(text, _name(path)) for path in _python() for text in _of_python(path)}
    found |= {Message(text, _name(path)) for path in _yaml() for text in _of_yaml(path)}
    return tuple(sorted(found, key=lambda item: (item.text.lower(), item.file)))


def page(found: Iterable[Message]) -> str:
    """The page of these messages."""
    by_section: dict[str, dict[str, None]] = {title: {} for title, *_ in SECTIONS}
    for message in found:
        by_section[section(message)][message.text] = None
    lines = [INTRODUCTION]
    for title, when, _ in SECTIONS:
        lines += [f"## {title}", "", when, ""]
        for text in by_section[title]:
            lines.append(f"- `` {text} ``" if "`" in text else f"- `{text}`")
            lines += [f"  {note}" for begin, note in NOTES.items() if text.startswith(begin)]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def section(message: Message) -> str:
    """The title of the section of a message; LookupError when no section names its file."""
    return next(title for title, _, places in SECTIONS if message.file.startswith(places))


def _name(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


def _python() -> Iterator[Path]:
    for pattern in ("slipway/**/*.py", "playbooks/look/*.py", "*_plugins/*.py", "roles/*/*/*.py"):
        yield from (path for path in sorted(PROJECT.glob(pattern)) if _name(path) not in _SKIPPED)


def _yaml() -> Iterator[Path]:
    for pattern in ("roles/*/tasks/*.yml", "roles/*/handlers/*.yml", "playbooks/*/*.yml", "*.yml"):
        yield from sorted(PROJECT.glob(pattern))


def _of_python(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=func, args=[first, *_]) if ast.unparse(func).endswith(("Error", "Fail")):
                yield from _sentences(first, least=2, of_error=True)
            case ast.Assign(targets=[ast.Name(id="reason" | "problem" | "message")], value=value):
                yield from _sentences(value)
            case ast.Assign(targets=[ast.Subscript(slice=ast.Constant(value="msg"))], value=value):
                yield from _sentences(value)
            case ast.Yield(value=ast.expr() as value):
                yield from _sentences(value)
            case ast.Return(value=ast.expr() as value):
                yield from _sentences(value, whole=True)
            case ast.keyword(arg="msg" | "purpose", value=value):
                yield from _sentences(value, of_error=True)
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name.isupper():
                yield from _sentences(value, whole=True)


def _sentences(
    node: ast.expr, *, least: int = _LEAST_WORDS, whole: bool = False, of_error: bool = False
) -> Iterator[str]:
    """The texts that an expression can be, with so many words at least.

    `whole`: only those that end like a sentence. `of_error`: also those that do not begin like one.
    """
    match node:
        case ast.IfExp(body=one, orelse=other):
            parts: list[ast.expr] = [one, other]
        case ast.BoolOp(values=parts):
            pass
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            pass
        case _:
            text = re.sub(r"\{(\w+)\}", r"<\1>", re.sub(r"\s+", " ", template(node)).strip())  # of str.format
            begins = of_error or bool(re.match(r"[A-Z'<\"-]", text))
            if len(text.split()) >= least and begins and (not whole or text.endswith(".")):
                yield text
            return
    for part in parts:
        yield from _sentences(part, least=least, whole=whole, of_error=of_error)


def template(node: ast.expr) -> str:
    """The text of an expression, with `<name>` for what is filled in; "" when it is no text."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(template(part) for part in parts)
        case ast.FormattedValue(value=value):
            return f"<{_label(value)}>"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return template(left) + (template(right) or f"<{_label(right)}>")
    return ""


def _label(node: ast.expr) -> str:
    """What an expression is called: its last name."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_").lower().replace("_", " ")
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return name
        case ast.Call(args=[first, *_]) | ast.Subscript(value=first) | ast.BinOp(left=first):
            return _label(first)
        case ast.BoolOp(values=[first, *_]) | ast.IfExp(body=first):
            return _label(first)
    return "…"


def _of_yaml(path: Path) -> Iterator[str]:
    for name, text in _walk(yaml.safe_load(path.read_text())):
        if name in ("fail_msg", "msg", "message") or name.startswith("__"):
            shown = re.sub(r"\{\{\s*([^}|]+?)\s*(?:\|[^}]*)?\}\}", lambda found: f"<{_word(found[1])}>", text)
            shown = re.sub(r"\s+", " ", shown).strip()
            if "{{" not in shown and len(shown.split()) >= _LEAST_WORDS and shown.endswith("."):
                yield shown


def _word(expression: str) -> str:
    """What a Jinja expression is called."""
    names = re.findall(r"[A-Za-z_][A-Za-z_ ]*", expression)
    return names[-1].strip("_ ").replace("_", " ") if names else "…"


def _walk(value: Any) -> Iterator[tuple[str, str]]:
    """Each text in a file of YAML, with the key that it stands under."""
    pairs = value.items() if isinstance(value, dict) else (("", item) for item in value if isinstance(value, list))
    for key, item in pairs:
        if isinstance(item, str):
            yield str(key), item
        elif isinstance(item, dict | list):
            yield from _walk(item)


if __name__ == "__main__":
    PAGE.write_text(page(messages()))
