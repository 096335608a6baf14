"""The settings of an app, as meta/argument_specs.yml declares them: completed, checked, and written for the engine."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
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
    app_checks,
    background_forms,
    commands,
    database,
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
from slipway.base.errors import RefusedError  # noqa: E402  # the path comes first
from slipway.slot import envfile  # noqa: E402  # the path comes first

Options = Mapping[str, Mapping[str, Any]]
Values = Mapping[str, Any]

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
    variables = {name: given.pop(name) for name in app_checks.VARIABLES if isinstance(given.get(name), dict)}
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
    is_far = "listen" in settings["needs"] or bool(settings["database"]["on"])
    needed = is_far or reach.elsewhere(env_values.texts(settings["env"]), settings["domains"])
    return "outbound" if needed else closed


def host_secrets(settings: Values, app: str) -> list[str]:
    """The names of the passwords that the host makes for an app's database and services."""
    return [*database.passwords(settings["database"], app).values(), *services.secrets(settings["services"])]


def filled_env(settings: Values, app: str, role: str = "") -> dict[str, str]:
    """The variables of the app, or of its migrations as `role`, in which the host puts such a password."""
    return {**database.filled(settings["database"], app, role), **services.filled(settings["services"], app)}


def loopback_ports(settings: Values, app: str) -> list[int]:
    """The ports of the host's own services that an app reaches."""
    own = [database.port(settings["database"])] if database.passwords(settings["database"], app) else []
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


def faults(settings: Values, name: str, environment: str, variables: Values) -> list[str]:
    """What is wrong with app `name`, a sentence each; `settings` are whole, `variables` is its environment."""
    app = app_checks.App(name, environment, settings, variables, specification())
    return [*app_checks.faults(app), *pythons.faults(name, settings)]


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
