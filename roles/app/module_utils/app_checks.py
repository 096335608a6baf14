"""What is wrong with the settings of an app, beyond what argument specs can say."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from roles.app.module_utils import (
    commands,
    database,
    entry_checks,
    env_values,
    file_settings,
    health_setting,
    reach,
    services,
)
from slipway.base import settings as engine
from slipway.base.errors import RefusedError
from slipway.release import git
from slipway.slot import envfile

# Settings with environment variables, where null is the same as leaving one out.
VARIABLES = ("env", "build_env")

Values = Mapping[str, Any]

# Names that no app may have, on whatever host: of roles, databases and units that a fresh host gets only with
# PostgreSQL, and of what Slipway itself is called: a unit slipway-access is not the deployment of an app "access". The
# role asks each host for its own accounts and units.
RESERVED_NAMES = frozenset(
    (
        *("postgres", "postgresql", "public", "none", "root", "nginx", "slipway", "systemd", "ssl"),
        *("template0", "template1", "slipway-recover", "slipway-certificate"),
        *("access", "access-back", "recover", "certificate", "redis", "mysql", "mariadb"),
        *("backup", "drill", "drill-work", "heartbeat", "pgbackrest", "restic", "restore"),
    )
)
# Of what Slipway has for an app: units before whose names it puts a word, and where Nginx leads requests that wait.
RESERVED_FORMS = re.compile(r"(standby|guard|hold|hook)-.+|.+-held")

# Headers that health_headers must not have: Nginx would set them anew, or they belong to the connection.
NOT_OWN_HEADERS = frozenset(("host", "connection", "upgrade", "x-request-id", "content-length", "transfer-encoding"))

# Settings that are lists of addresses and networks.
NETWORKS = ("unlimited_from", "allow_from", "maintenance_allow")

# A line of a file of passwords, with a hash of SHA-256, SHA-512, yescrypt or bcrypt.
PASSWORD = re.compile(r"[A-Za-z0-9._@-]+:\$(5|6|y|2[aby])\$[A-Za-z0-9./$=,]+")

# Directives that would take something away from the app's server block, and what to use in their place.
NOT_IN_SNIPPETS = {
    "proxy_set_header": "which would pass on what clients say of themselves (X-Forwarded-For and others). Remove it.",
    "add_header": "which would drop the headers of all answers. Remove it, and let the app send its own header.",
    "error_page": "which would drop the error pages. Remove it.",
    "access_log": "which the engine counts errors in. Remove it.",
    "error_log": "which would write the queries of requests, and these may be secrets. Remove it.",
    "include": "but what Nginx reads is tested as one file. Write the directives themselves.",
    "server_name": "which comes from `domains`. Add the name there.",
    "listen": "which is the same for all apps of a host. Remove it.",
}
# A comment, a text in quotes, or a character behind a backslash.
_NGINX_WORDS = re.compile(r"""#[^\n]*|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\\.|\$\{\w+\}""")


@dataclass(frozen=True)
class App:
    """An app to check: its whole settings, the environment variables that it is given, and what may be declared."""

    name: str
    environment: str
    settings: Values
    variables: Values
    options: Mapping[str, Values]


def faults(app: App) -> list[str]:
    """What is wrong with an app, a sentence each."""
    return [sentence for check in CHECKS for sentence in check(app)]


def _name(app: App) -> Iterator[str]:
    try:
        engine.check_app_name(app.name)
    except RefusedError as error:
        yield f"apps: {error}"
    if app.name in RESERVED_NAMES or RESERVED_FORMS.fullmatch(app.name):
        yield f"apps: '{app.name}' cannot be an app's name: the system uses it. Give the app another name."


def _domains(app: App) -> Iterator[str]:
    if not app.settings["domains"]:
        yield f"apps.{app.name}.domains is empty. List the host names under which the app is reached."


def _environment(app: App) -> Iterator[str]:
    for name in filter(envfile.NAME.fullmatch, app.settings["required_env"]):  # others are refused elsewhere
        if app.variables.get(name) in (None, ""):
            yield (
                f"apps.{app.name}.env has no {name}, which the app requires. Set it there, from ansible-vault "
                f"(inventories/{app.environment}/group_vars/{app.environment}/vault.yml)."
            )
    yield from database.faults(app.name, app.settings["database"], app.settings["env"])
    yield from services.faults(app.name, app.settings["services"], app.settings["env"])
    for setting in VARIABLES:
        yield from env_values.faults(f"apps.{app.name}.{setting}", app.settings[setting])
    for name in filter(envfile.NAME.fullmatch, app.settings["credentials"]):
        if name not in app.settings["env"]:
            yield f"apps.{app.name}.credentials has {name}, which apps.{app.name}.env does not have. Add it there."
    for name in env_values.generated(app.settings["build_env"]):
        yield f"apps.{app.name}.build_env.{name} cannot be generated: only the app gets such values. Move it to env."


def _signers(app: App) -> Iterator[str]:
    if app.settings["accept"] == "signed-tags" and not app.settings["allowed_signers"]:
        yield (
            f"apps.{app.name}.accept is signed-tags, but allowed_signers is empty. List who may sign, as in "
            "'alice@example.com ssh-ed25519 AAAA...'."
        )


def _entry(app: App) -> Iterator[str]:
    yield from entry_checks.faults(f"apps.{app.name}", app.settings)


def _repository(app: App) -> Iterator[str]:
    """The address may have a password in it, so no sentence shows it."""
    if problem := git.transport_problem(app.settings["repository"], app.settings["accept"]):
        yield f"apps.{app.name}.repository: {problem}"


def _numbers(app: App) -> Iterator[str]:
    for name, option in app.options.items():
        if option["type"] in ("int", "float") and app.settings[name] < 0:
            yield f"apps.{app.name}.{name} is {app.settings[name]}, but must be 0 or more."


def _timeouts(app: App) -> Iterator[str]:
    graceful, request = app.settings["graceful_timeout"], app.settings["request_timeout"]
    if graceful < request:
        yield (
            f"apps.{app.name}.graceful_timeout is {graceful}, shorter than request_timeout ({request}): a request that "
            f"Nginx still waits for would be cut when its worker is stopped. Set graceful_timeout to {request} or "
            f"more, or request_timeout to {graceful} or less."
        )


def _rules(app: App) -> Iterator[str]:
    """What the engine checks, too, in its words."""
    for rule in engine.RULES:
        setting = {"lock_file": "lock"}.get(rule.setting, rule.setting)
        value = app.settings[setting]
        if not rule.holds(value):
            meant = entry_checks.module_meant(value) if setting == "module" else ""
            advice = f" Write {meant}." if meant else ""
            yield f"apps.{app.name}.{setting} is '{value}', but {rule.sentence}{advice}"


def _packages(app: App) -> Iterator[str]:
    for package in app.settings["packages"]:
        if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]+(:[a-z0-9]+)?", package):
            yield f"apps.{app.name}.packages has '{package}', which is none of a Debian package, such as npm."


def _hooks(app: App) -> Iterator[str]:
    """The URL of a webhook is a secret, so no sentence shows it."""
    for number, hook in enumerate(app.settings["hooks"]):
        where = f"apps.{app.name}.hooks[{number}]"
        if bool(hook["command"]) == bool(hook["url"]):
            given = "both command and url" if hook["url"] else "neither command nor url"
            yield f"{where} has {given}. Give exactly one of the two."
        elif hook["url"] and not engine.HOOK_URL.fullmatch(hook["url"]):
            yield f"{where}.url must begin with https:// (http:// only to the host itself) and have no spaces."
        elif hook["command"] and not hook["command"][0].startswith("/"):
            yield f"{where}.command must begin with the path of a program, such as [/usr/local/bin/announce, now]."
        if not hook["on"]:
            yield f"{where}.on is empty. List when it is called: opened, switched, closed."
        if hook["timeout"] < 1:
            yield f"{where}.timeout is {hook['timeout']}, but must be 1 or more seconds."


def _health(app: App) -> Iterator[str]:
    """A header may be a secret, so no sentence shows a value."""
    yield from health_setting.faults(f"apps.{app.name}", app.settings)
    domains, host = app.settings["domains"], app.settings["health_host"]
    if host and host not in domains:
        yield (
            f"apps.{app.name}.health_host is '{host}', which is none of the app's domains, so Nginx would refuse it. "
            f"Set it to one of them ({', '.join(domains)}), or add it to apps.{app.name}.domains."
        )
    for name, value in app.settings["health_headers"].items():
        where = f"apps.{app.name}.health_headers"
        if not re.fullmatch(r"[A-Za-z0-9-]+", str(name)):
            yield f"{where}: '{name}' is no name that Nginx passes on. Use letters, digits and '-'."
        elif str(name).lower() in NOT_OWN_HEADERS or str(name).lower().startswith("x-forwarded-"):
            yield f"{where}: {name} is set by Nginx for every request. Remove it; for the host there is health_host."
        elif not isinstance(value, str) or not re.fullmatch(r"[ -~]+", value):
            yield f"{where}.{name} must be a text in one line of printable ASCII characters. Put it in quotes."


def _homes(app: App) -> Iterator[str]:
    for path in app.settings["writable_paths"]:
        if path.startswith(("/home/", "/root/")) and not {"writable_home", "unconfined"} & set(app.settings["needs"]):
            yield (
                f"apps.{app.name}.writable_paths has {path}, but the sandbox hides home directories. Move it to "
                f"another place, or add writable_home to apps.{app.name}.needs."
            )


def _network(app: App) -> Iterator[str]:
    """An address of the declaration that `network: none` would cut off; other variables may mean anything."""
    if app.settings["network"] != "none":
        return
    if "listen" in app.settings["needs"]:
        yield (
            f"apps.{app.name}.needs has listen, but network is none: take one of the two out. With listen the network "
            "is outbound."
        )
    declared = app.settings["database"]
    if declared["on"]:
        yield (
            f"apps.{app.name}.database.on is {declared['on']}, which is reached by a network, but "
            f"apps.{app.name}.network is none. Set it to outbound, or leave it out."
        )
        return
    name = declared["url"] or declared["parts"].get("host", database.URL)
    if reach.elsewhere({name: app.settings["env"].get(name) or ""}, []):
        yield (
            f"apps.{app.name}.env.{name} is a database that is reached by a network, but apps.{app.name}.network "
            "is none. Set it to outbound, or leave it out."
        )


def _networks(app: App) -> Iterator[str]:
    for setting in NETWORKS:
        for value in app.settings[setting]:
            try:
                ipaddress.ip_network(value)
            except ValueError:
                yield (
                    f"apps.{app.name}.{setting} has '{value}', which is no address and no network. Write it as in "
                    "192.0.2.7, 192.0.2.0/24 or 2001:db8::/32, without bits behind the mask."
                )


def _passwords(app: App) -> Iterator[str]:
    """A hash is as good as a secret, so no sentence shows it."""
    for number, line in enumerate(app.settings["basic_auth"]):
        if not PASSWORD.fullmatch(line):
            yield (
                f"apps.{app.name}.basic_auth[{number}] is no name with a hashed password. Write it as in "
                '"alice:$6$...", with what `openssl passwd -6` prints behind the colon.'
            )


def _snippet(app: App) -> Iterator[str]:
    """Nginx tests the rest: it is part of the configuration that is tested before it is installed."""
    where = f"apps.{app.name}.nginx_snippet"
    text = _NGINX_WORDS.sub(lambda found: "" if found[0].startswith("#") else "x", app.settings["nginx_snippet"])
    depth = 0
    for brace in re.findall(r"[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            break
    if depth:
        yield f"{where} has a brace without its other half, which would end the app's server block. Close it."
    elif text.strip() and not re.search(r"[;}]\s*$", text):
        yield f"{where} does not end with ';' or '}}', so what follows it would be taken for a part of it. End it."
    for directive in re.findall(r"(?:^|[;{}])\s*([a-z_0-9]+)", text):
        if why := NOT_IN_SNIPPETS.get(directive):
            yield f"{where} has {directive}, {why}"


def _commands(app: App) -> Iterator[str]:
    for setting in ("migrate", "after_migrate"):
        yield from commands.faults(f"apps.{app.name}.{setting}", app.settings[setting])


def _files(app: App) -> Iterator[str]:
    yield from file_settings.data_faults(f"apps.{app.name}.data", app.settings["data"])
    yield from file_settings.static_faults(f"apps.{app.name}.static", app.settings["static"], app.settings["data"])


CHECKS = (
    _name,
    _domains,
    _environment,
    _signers,
    _entry,
    _repository,
    _numbers,
    _timeouts,
    _rules,
    _packages,
    _hooks,
    _health,
    _homes,
    _network,
    _networks,
    _passwords,
    _snippet,
    _commands,
    _files,
)
