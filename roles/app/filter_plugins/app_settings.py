"""The settings of an app, as meta/argument_specs.yml declares them: completed, checked, and written for the engine."""

from __future__ import annotations

import ipaddress
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ROLE = Path(__file__).resolve().parents[1]
PROJECT = ROLE.parents[1]
if str(PROJECT) not in sys.path:  # where Ansible loads this file, it is not
    sys.path.append(str(PROJECT))

from roles.app.filter_plugins import pythons  # noqa: E402  # the path comes first
from roles.app.module_utils import (  # noqa: E402  # the path comes first
    background_forms,
    commands,
    database,
    entry_checks,
    env_values,
    file_settings,
    health_setting,
    reach,
    secret_names,
    services,
    setting_forms,
    setting_texts,
)
from slipway.base import sandbox  # noqa: E402  # the path comes first
from slipway.base import settings as engine  # noqa: E402  # the path comes first
from slipway.base.errors import RefusedError  # noqa: E402  # the path comes first
from slipway.release import git  # noqa: E402  # the path comes first
from slipway.slot import envfile  # noqa: E402  # the path comes first

# Settings with environment variables, where null is the same as leaving one out.
VARIABLES = ("env", "build_env")

Options = Mapping[str, Mapping[str, Any]]
Values = Mapping[str, Any]

# Names that no app may have, on whatever host: of roles, databases and units that a fresh host gets only with
# PostgreSQL, and of what Slipway itself is called: a unit slipway-access is not the deployment of an app "access". The
# role asks each host for its own accounts and units.
RESERVED_NAMES = frozenset(
    (
        *("postgres", "postgresql", "public", "none", "root", "nginx", "slipway", "systemd", "ssl"),
        *("template0", "template1", "slipway-recover", "slipway-certificate"),
        *("access", "access-back", "recover", "certificate", "redis", "mysql", "mariadb"),
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

# Inventories may have these names still. The specification has no place for them: ansible-lint refuses its `aliases`.
OLD_NAMES = {"warm_deadline": "start_deadline", "warm_answers": "start_answers"}


@cache  # Ansible works a variable out again at each use
def specification() -> dict[str, dict[str, Any]]:
    """What an app may declare: the options of the role's `app_settings`."""
    declared = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    found: dict[str, dict[str, Any]] = declared["app_settings"]["options"]
    return found


def complete(
    declared: Values, defaults: Values | None = None, options: Options | None = None, app: str = ""
) -> dict[str, Any]:
    """The whole settings of one app: `declared` over `defaults` over those of `options` (of the role, if not given).

    They come in the order of the options and in their types: a single domain given as text is a list of one. Old names
    of settings are taken for the new ones. AnsibleFilterError says in one sentence what is wrong. `app` is its name.
    """
    options = specification() if options is None else options
    given = {**_renamed(defaults or {}), **_renamed(declared)}
    # Variables have values of any kind, for which the validator has no words: module_utils/env_values.py has.
    variables = {name: given.pop(name) for name in VARIABLES if isinstance(given.get(name), dict)}
    if wrong := list(setting_forms.faults(options, given)) or list(setting_texts.faults(options, given)):
        raise AnsibleFilterError(wrong[0])
    if wrong := list(background_forms.declared_faults(given)):
        raise AnsibleFilterError(wrong[0])
    # A copy, as the validator fills a default that is a mapping with the defaults of its parts.
    result = ArgumentSpecValidator(deepcopy(options)).validate(given)
    if result.error_messages:
        # Of several sentences about one value, the last one names the setting.
        raise AnsibleFilterError(result.error_messages[-1])
    for name, values in variables.items():
        result.validated_parameters[name] = {key: value for key, value in values.items() if value is not None}
    found = {name: result.validated_parameters[name] for name in options}
    _normalise(found, app)
    return background_forms.complete(found) if "processes" in found else found


# Settings that may be written in more than one form, and what makes the whole form of them.
WHOLE: Mapping[str, Callable[[Any], Any]] = {
    "migrate": commands.whole_migrate,
    "after_migrate": partial(commands.whole, "after_migrate"),
    "data": file_settings.whole_data,
    "static": file_settings.whole_static,
}


def _normalise(found: dict[str, Any], app: str) -> None:
    """Give the settings that may be written in several forms their one whole form."""
    try:
        for name in WHOLE.keys() & found.keys():
            found[name] = WHOLE[name](found[name])
        found["services"] = services.whole(found["services"])
        found["env"] = secret_names.with_secrets(found["secrets"], found["env"])
        if "health" in found:
            found.update(health_setting.whole(found))
        if "database" in found:
            found["database"] = database.whole(found["database"], found["env"], app)
            found["env"] = database.without_own(found["database"], found["env"])
    except RefusedError as error:
        raise AnsibleFilterError(f"{error}") from error


def form_faults(values: Values, options: Options) -> list[str]:
    """What is wrong with the forms of some settings, a sentence each, which begins with the key."""
    return list(setting_forms.faults(options, _renamed(values)))


def _renamed(values: Values) -> dict[str, Any]:
    """The values by the names that their settings have now, in ordinary containers."""
    found: dict[str, Any] = _plain(values)
    if isinstance(found.get("hooks"), list):
        # YAML takes an unquoted `on` for true.
        found["hooks"] = [_keys(hook, {True: "on"}) if isinstance(hook, dict) else hook for hook in found["hooks"]]
    for old, name in OLD_NAMES.items():
        if old in found and name in found:
            raise AnsibleFilterError(f"{old} and {name} are the same setting. Remove {old}.")
        if old in found:
            found[name] = found.pop(old)
    return found


def _keys(values: Mapping[Any, Any], names: Mapping[Any, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}


def _plain(value: Any) -> Any:
    """Ansible's containers, which hold templates until they are read, as ordinary ones, which can be copied."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def network(settings: Values) -> str:
    """What the app reaches, decided where it is left to Slipway: `none`, `loopback` or `outbound`."""
    closed = "loopback" if loopback_ports(settings, "app") else "none"
    if settings["network"] != "auto":
        return closed if settings["network"] == "none" else str(settings["network"])
    needed = "listen" in settings["needs"] or reach.elsewhere(env_values.texts(settings["env"]), settings["domains"])
    return "outbound" if needed else closed


def host_secrets(settings: Values, app: str) -> list[str]:
    """The names of the passwords that the host makes for an app's database and services."""
    return [*database.passwords(settings["database"], app).values(), *services.secrets(settings["services"])]


def filled_env(settings: Values, app: str, role: str = "") -> dict[str, str]:
    """The variables of the app, or of its migrations as `role`, in which the host puts such a password."""
    return {**database.filled(settings["database"], app, role), **services.filled(settings["services"], app)}


def loopback_ports(settings: Values, app: str) -> list[int]:
    """The ports of the host's own services that an app reaches."""
    own = [database.PORT] if database.passwords(settings["database"], app) else []
    return own + services.ports(settings["services"], app)


def credentials(settings: Values) -> list[str]:
    """The names of what the app gets as files of systemd: with a secret that the host makes, the one before it."""
    made = env_values.generated(settings["env"])
    return [
        name
        for declared in settings["credentials"]
        for name in ([declared, envfile.previous(declared)] if declared in made else [declared])
    ]


def public(settings: Values) -> dict[str, Any]:
    """The settings that are no secrets."""
    secret = {name for name, option in specification().items() if option.get("no_log")}
    return {name: value for name, value in settings.items() if name not in secret}


# What argument specs cannot say


@dataclass(frozen=True)
class App:
    """An app to check: its whole settings, and the environment variables that it is given."""

    name: str
    environment: str
    settings: Values
    variables: Values


def faults(settings: Values, name: str, environment: str, variables: Values) -> list[str]:
    """What is wrong with app `name`, a sentence each; `settings` are whole, `variables` is its environment."""
    app = App(name, environment, settings, variables)
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
    for name, option in specification().items():
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
            yield f"apps.{app.name}.{setting} is '{value}', but {rule.sentence}"


def _python(app: App) -> Iterator[str]:
    yield from pythons.faults(app.name, app.settings)


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
    _python,
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


# For the engine


def toml(settings: Values, facts: Values) -> str:
    """The engine's settings file: all but secrets, with `facts` (what the role adds or works out) over them."""
    values = {**facts, **public(settings), **facts}
    return "\n".join(f"{name} = {_toml(value)}" for name, value in values.items())


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    # JSON's text, numbers, true and false are TOML's, but that TOML wants this one character escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def env_file(variables: Values) -> str:
    """An environment file, with its variables in the order of their names."""
    texts = env_values.texts(variables)
    return envfile.render({name: texts[name] for name in sorted(texts, key=str.lower)})


def hooks_file(settings: Values) -> str:
    """What the engine reads as its file of hooks."""
    return json.dumps({"version": 1, "hooks": settings["hooks"]}, indent=2) + "\n"


def health_headers_file(headers: Values) -> str:
    """What the engine reads as the headers of its health requests."""
    return json.dumps(headers, indent=2) + "\n"


class FilterModule:
    """Makes them known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "app_complete": complete,
            "app_check": faults,
            "app_credentials": credentials,
            "app_database_variables": lambda settings, app: database.variables(settings["database"], app),
            "app_migration_variables": lambda settings, app, role: database.of_migrations(
                settings["database"], settings["env"], app, role
            ),
            "app_own_env": lambda settings: {
                name: value for name, value in settings["env"].items() if name != database.MIGRATION_URL
            },
            "app_database_passwords": lambda settings, app: database.passwords(settings["database"], app),
            "app_host_secrets": host_secrets,
            "app_filled_env": filled_env,
            "app_database_kind": lambda settings: database.engine_kind(settings["database"], settings["env"]),
            "app_database_names": lambda settings: database.names(settings["database"]),
            "app_env_file": env_file,
            "app_generated_env": env_values.generated,
            "app_toml": toml,
            "app_hooks_file": hooks_file,
            "app_health_headers_file": health_headers_file,
            "app_network": network,
            "app_sandbox": sandbox.directives,
            "app_background_units": background_forms.units,
            "app_command_line": background_forms.command_line,
            "app_here": background_forms.here,
            "app_engine_sandbox": lambda _: sandbox.ENGINE,
        }
