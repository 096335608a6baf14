"""The engine's settings for one app: `/etc/slipway/<app>.toml`, and the paths that follow from them."""

from __future__ import annotations

import re
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from slipway.base.errors import RefusedError

SETTINGS_DIRECTORY = Path("/etc/slipway")
RUN_DIRECTORY = Path("/run/slipway")
UNIT_DIRECTORY = Path("/etc/systemd/system")

# A unit name, a database name and, with "_migrate" behind it, a user name of at most 32 characters.
APP_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,21}[a-z0-9])?")

# What the gate asks without credentials, as "METHOD /path".
AUTH_CHECK = re.compile(r"(GET|POST|PUT|PATCH|DELETE) /[A-Za-z0-9._~/?&=%-]*")
# A token goes there, so it is encrypted on its way to any other machine.
LOGBOOK_URL = re.compile(
    r"(https://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])|http://(127\.0\.0\.1|localhost|\[::1\]))(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?"
)

ACCEPT = ("tags", "signed-tags", "commits")
ON_INCOMPATIBLE = ("stop", "continue")


@dataclass(frozen=True)
class Settings:
    """What the engine knows of one app. Times in seconds; sizes as named."""

    app: str
    environment: str
    user: str
    build_user: str
    migrate_user: str
    env_file: Path
    migrate_env_file: Path
    workers: int
    root: Path
    required_env: list[str] = field(default_factory=list)
    python: Path = Path("/usr/bin/python3")
    uv: Path = Path("uv")
    uv_cache: Path = Path("/var/cache/slipway")
    accept: str = "tags"
    allowed_signers: str = ""
    health_path: str = "/health/ready"
    auth_check: str = ""
    keep_releases: int = 5
    min_free_mb: int = 500
    min_free_inodes: int = 20_000
    migrate_timeout: int = 600
    on_incompatible: str = "stop"
    start_deadline: float = 60
    start_answers: int = 3
    watch_seconds: float = 10
    watch_max_error_ratio: float = 0.05
    watch_min_requests: int = 20
    watch_url: str = ""
    watch_port: int = 443
    access_log: str = ""
    certificate: str = ""
    drain_seconds: float = 30
    # Between two phases; of several hosts one waits over the phase of another, so longer than most.
    lease_seconds: float = 300
    logbook_url: str = ""
    logbook_ca: str = ""
    logbook_repository_url: str = ""
    build_env: dict[str, str] = field(default_factory=dict)

    @property
    def repository(self) -> Path:
        """Bare mirror with every commit that was ever deployed here."""
        return self.root / "repo.git"

    @property
    def releases(self) -> Path:
        return self.root / "releases"

    @property
    def live(self) -> Path:
        """The symlink that says which slot takes traffic."""
        return self.root / "live"

    @property
    def journal(self) -> Path:
        return self.root / "journal.jsonl"

    @property
    def backups(self) -> Path:
        """Dumps of the database, made before a schema is downgraded."""
        return self.root / "backups"

    @property
    def deployment(self) -> Path:
        """The deployment in progress; absent when there is none."""
        return self.root / "deployment.json"

    @property
    def outbox(self) -> Path:
        """Reports that the Logbook has not taken yet."""
        return self.root / "outbox"

    @property
    def logbook_token_file(self) -> Path:
        """Apart from the settings, which anybody on the host may read."""
        return SETTINGS_DIRECTORY / f"{self.app}.logbook-token"

    @property
    def hooks_file(self) -> Path:
        """Apart from the settings as well: the addresses of webhooks are secrets."""
        return SETTINGS_DIRECTORY / f"{self.app}.hooks.json"

    @property
    def lock(self) -> Path:
        return RUN_DIRECTORY / f"{self.app}.lock"

    @property
    def slot_inputs(self) -> list[Path]:
        """Files outside of a release that shape a running slot: a change to one is a reason to deploy."""
        return [
            self.env_file,
            self.env_file.with_name("gunicorn.conf.py"),
            UNIT_DIRECTORY / f"{self.app}@.service",
        ]

    def slot(self, name: str) -> Path:
        return self.root / "slots" / name

    def release(self, name: str) -> Path:
        return self.releases / name


def check_app_name(name: str) -> str:
    """Return `name`, or raise RefusedError where it cannot be a unit, database and user name."""
    if APP_NAME.fullmatch(name):
        return name
    raise RefusedError(
        f"'{name}' cannot be an app's name: use 1 to 23 of a-z, 0-9 and '-', "
        "beginning with a letter and not ending in '-'."
    )


def load(app: str, directory: Path = SETTINGS_DIRECTORY) -> Settings:
    """Read the settings of `app`; RefusedError when it is unknown here or a value is wrong."""
    path = directory / f"{check_app_name(app)}.toml"
    try:
        text = path.read_text()
    except FileNotFoundError:
        known = ", ".join(installed(directory)) or "none"
        raise RefusedError(
            f"No app '{app}' on this host (there is no {path}; apps here: {known}). Provision it with site.yml."
        ) from None
    try:
        return parse(tomllib.loads(text), source=str(path))
    except tomllib.TOMLDecodeError as error:
        raise RefusedError(f"{path} is not TOML ({error}). Run site.yml to write it again.") from None


def installed(directory: Path = SETTINGS_DIRECTORY) -> list[str]:
    """Names of the apps that this host carries, sorted."""
    return sorted(path.stem for path in directory.glob("*.toml"))


def parse(values: Mapping[str, Any], source: str) -> Settings:
    """Build Settings from decoded TOML; RefusedError names `source` and the first key that is wrong."""
    hints = get_type_hints(Settings)
    known = {item.name: item for item in fields(Settings)}
    if unknown := sorted(set(values) - set(known)):
        raise RefusedError(f"{source}: unknown setting '{unknown[0]}'.")
    arguments: dict[str, Any] = {}
    for name, item in known.items():
        if name in values:
            arguments[name] = _convert(values[name], hints[name], f"{source}: '{name}'")
        elif item.default is MISSING and item.default_factory is MISSING:
            raise RefusedError(f"{source}: '{name}' is missing.")
    settings = Settings(**arguments)
    for name, value, choices in (
        ("accept", settings.accept, ACCEPT),
        ("on_incompatible", settings.on_incompatible, ON_INCOMPATIBLE),
    ):
        if value not in choices:
            raise RefusedError(f"{source}: '{name}' is '{value}', but must be one of {', '.join(choices)}.")
    if settings.accept == "signed-tags" and not settings.allowed_signers:
        raise RefusedError(f"{source}: 'accept' is 'signed-tags', which needs 'allowed_signers'.")
    if settings.auth_check and not AUTH_CHECK.fullmatch(settings.auth_check):
        raise RefusedError(
            f"{source}: 'auth_check' is '{settings.auth_check}', but must be a method and a path, "
            "such as 'POST /api/v1/deployments'."
        )
    if settings.logbook_url and not LOGBOOK_URL.fullmatch(settings.logbook_url):
        raise RefusedError(
            f"{source}: 'logbook_url' is '{settings.logbook_url}', but must begin with https:// "
            "(http:// only to this host itself) and end before '?'."
        )
    if settings.workers < 1:
        raise RefusedError(f"{source}: 'workers' is {settings.workers}, but must be 1 or more.")
    return settings


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Check `value` against a field's type; paths come as strings and floats may come as integers."""
    origin = get_origin(hint) or hint
    if origin is Path and isinstance(value, str):
        return Path(value)
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, types.GenericAlias) and isinstance(value, origin):
        members = value.values() if isinstance(value, dict) else value
        if all(isinstance(member, get_args(hint)[-1]) for member in members):
            return value
    elif isinstance(value, origin) and not (origin is int and isinstance(value, bool)):
        return value
    raise RefusedError(f"{where} is {value!r}, but must be of type {getattr(hint, '__name__', hint)}.")
