"""`python -m docs.settings`: writes docs/settings.md, all settings of an app, from the specifications of the roles."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filter_plugins import apps, backups
from roles.app.filter_plugins import app_settings
from slipway.base import sandbox

PAGE = Path(__file__).with_name("settings.md")

TYPES = {
    "str": "text",
    "path": "path",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "list": "list",
    "dict": "mapping",
    "raw": "text, list or mapping",
}

INTRODUCTION = """\
# Settings of an app

<!-- Made from roles/app/meta/argument_specs.yml, roles/certificate/meta/argument_specs.yml and
roles/backup/meta/argument_specs.yml by `make docs`; a test compares them. The words of `needs` are in
slipway/base/sandbox.py. -->

Each app is a key of `apps` in the inventory (`inventories/<environment>/group_vars/<environment>/main.yml`), with the
settings that differ from their defaults:

    apps:
      logbook:
        domains: [logbook.example.com]
        env:
          SECRET_KEY: "{{ vault_logbook_secret_key }}"

Settings for all apps of an environment stand beside `apps`, in `app_defaults`; those of an app take precedence.
`site.yml` checks the settings and writes them to the hosts. Most of them reach the running app with its next deploy.
"""

NEEDS = """\
An app runs in a sandbox: it reads its release, writes its data directory, and talks over unix sockets, and over
internet sockets where `network` says so. What it does beyond that is declared in words. `slipway status` names the word
when the app's log shows that the sandbox denied something."""

BACKUPS = """\
Beside `apps`, for the hosts of the environment: `backups` with the settings that differ from their defaults, or
`backups: false` for none. See [backups](backups.md)."""

EXAMPLES = {
    "hooks": """\
    hooks:
      - {"on": [switched, closed], command: [/usr/local/bin/announce, --quiet]}
      - {url: "{{ vault_slack_url }}", format: slack}""",
    "tls": """\
    tls: {provider: acme, email: ops@example.com}
    tls: {provider: files, certificate: inventories/prod/tls/fullchain.pem, key: inventories/prod/tls/privkey.pem}""",
}


def page() -> str:
    """The page, from the specifications as they are now."""
    options = apps.specification()
    lines = [INTRODUCTION, *_table(options), "", *_old_names()]
    for name, option in options.items():
        if "options" in option:
            lines += ["", f"## {name}", "", option["description"], "", *_table(option["options"])]
            lines += ["", "For example:", "", EXAMPLES[name]]
    return "\n".join([*lines, "", *_needs(), "", *_backups()]) + "\n"


def _backups() -> Iterator[str]:
    """The settings of backups, which are of a host and not of an app."""
    yield "## backups"
    yield from ("", BACKUPS, "")
    yield from _table(backups.specification())
    yield from ("", "For example:", "", "    backups:", "      path: /mnt/backups")
    yield '      passphrase: "{{ vault_backup_passphrase }}"'


def _needs() -> Iterator[str]:
    """The words for what an app does beyond its sandbox."""
    yield "## needs"
    yield from ("", NEEDS, "")
    yield "| word | what the app can do with it | what it costs |"
    yield "| --- | --- | --- |"
    yield from (f"| `{word}` | {need.allows} | {need.costs} |" for word, need in sandbox.NEEDS.items())
    yield from ("", "For example:", "", "    needs: [jit, psutil]")


def _table(options: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "| setting | type | default | meaning |"
    yield "| --- | --- | --- | --- |"
    for name, option in options.items():
        default = f"`{json.dumps(option['default'])}`" if option.get("default") is not None else ""
        cells = [f"`{name}`", _type(option), default, option["description"]]
        yield f"| {' | '.join(cell.strip().replace('|', chr(92) + '|') for cell in cells)} |"


def _type(option: Mapping[str, Any]) -> str:
    found = TYPES[option["type"]]
    if "elements" in option:
        found += f" of {TYPES[option['elements']]}s" if option["elements"] != "str" else " of texts"
    if "choices" in option:
        found += f": {', '.join(option['choices'])}"
    return found


def _old_names() -> Iterator[str]:
    old = ", ".join(f"`{old}` for `{new}`" for old, new in app_settings.OLD_NAMES.items())
    yield f"Old names of settings are still read: {old}."


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
