"""docs/troubleshooting.md has every message with which Slipway refuses or fails."""

from __future__ import annotations

import ast
import re

import pytest

from docs import troubleshooting
from docs.troubleshooting import PROJECT, SECTIONS, Message

# Errors whose text is made elsewhere: of a function that returns a sentence, or of a tool. Those texts are on the page.
PASSED_ON = {
    "_with_path(f'apps.{name}', error.message, {**common, **declared})",
    "absent",
    "str(answer['failed'])",
    "f'{what} failed: {reason}' if reason else f'{what} failed.'",
    "lock.DISCONNECTED",
    "message",
    "problem",
    "reason",
    "result.error_messages[-1]",
    "setting_forms.unknown(f'database.{unknown[0]}', unknown[0], _KEYS)",
    "wrong[0]",
    "why_not(host, user, found['stdout'] + '\\n' + found['stderr'])",
    "wrong or f'openssl {arguments[0]} failed: {done.stderr.strip().splitlines()[-1:]}'",
    "_undecided(clusters, there, usable, port)",
    "_whereabouts(settings, release, environment, before, schema)",
}


def test_the_page_is_that_of_the_code() -> None:
    found = troubleshooting.page(troubleshooting.messages())
    assert troubleshooting.PAGE.read_text() == found, "run `make docs`"


@pytest.mark.parametrize(
    "begin",
    [
        "This run would touch <what>",
        "'apps' must be a mapping",
        "There is no variable '<name>'",
        "<program> (process <pid>) listens on <which> that Nginx needs",
        "'<user>' may not use sudo on <host>",
        "The certificate of <name> is refused",
        "<name> is a shallow clone",
        "<app>@<slot> crashed after <waited> s",
        "<app>@<slot> was not ready within",
        "<app> is being deployed by <owner>",
        "<name> has a port that is not a number",
        "This host was never provisioned",
        "Slipway has a defect",
        "without names <unknown>",
        "<version> has no migrations",
    ],
)
def test_messages_of_every_origin_are_on_it(begin: str) -> None:
    assert any(message.text.startswith(begin) for message in troubleshooting.messages())


def test_more_words_belong_to_a_message() -> None:
    texts = [message.text for message in troubleshooting.messages()]
    assert [begin for begin in troubleshooting.NOTES if not any(text.startswith(begin) for text in texts)] == []


def test_every_section_has_messages_and_every_message_a_section() -> None:
    found = {troubleshooting.section(message) for message in troubleshooting.messages()}
    assert found == {title for title, *_ in SECTIONS}
    with pytest.raises(StopIteration):
        troubleshooting.section(Message("x", "elsewhere.py"))


def test_no_error_has_a_text_that_is_not_on_the_page() -> None:
    """A new error with a text from elsewhere has to be thought of here, and its texts to be found by the page."""
    texts = {message.text for message in troubleshooting.messages()}
    unknown = []
    for path in troubleshooting._python():
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Raise(exc=ast.Call(func=func, args=[first, *_])) if ast.unparse(func).endswith(
                    ("RefusedError", "FailedError", "LockedError", "FilterError", "ActionFail", "CertificateError")
                ):
                    shown = list(troubleshooting._sentences(first, least=2, of_error=True))
                    nothing_of_its_own = re.fullmatch(r"(<[^>]*>[ .:]*)+", troubleshooting.template(first))
                    if not set(shown) & texts and not nothing_of_its_own and ast.unparse(first) not in PASSED_ON:
                        unknown.append(f"{path.relative_to(PROJECT)}, line {node.lineno}: {ast.unparse(first)[:80]}")
    assert unknown == []
