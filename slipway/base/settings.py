"""The engine's settings for one app: `/etc/slipway/<app>.toml`, and the paths that follow from them."""

from __future__ import annotations

import re
import shlex
import tomllib
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args, get_origin, get_type_hints

from slipway.base import files, sandbox
from slipway.base.errors import RefusedError

SETTINGS_DIRECTORY = Path("/etc/slipway")
RUN_DIRECTORY = Path("/run/slipway")
UNIT_DIRECTORY = Path("/etc/systemd/system")
DATA_DIRECTORY = Path("/var/lib")

# Files of settings beside those of the apps; no app can have such a name.
OF_THE_HOST = ("backup",)

Migrates = Literal["alembic", "commands", "nothing"]
ALEMBIC = "alembic"  # in the place of a command of `migrate`

Accept = Literal["tags", "signed-tags", "commits"]
ACCEPT: tuple[str, ...] = get_args(Accept)

# A unit name, a database name and, with "_migrate" behind it, a user name of at most 32 characters.
APP_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,21}[a-z0-9])?")

# What the gate asks without credentials, as "METHOD /path".
AUTH_CHECK = re.compile(r"(GET|POST|PUT|PATCH|DELETE) /[A-Za-z0-9._~/?&=%-]*")

# What a release serves: a module and a name in it, perhaps with a call that has plain texts or numbers.
MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\([A-Za-z0-9_ '=,.-]*\))?")

# The rest of a URL, as it stands in a request; a fragment never does.
_URL_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*")

# A directory of the host, below one of the root's, without what systemd reads as more than a path.
_DIRECTORY = re.compile(r"(/[A-Za-z0-9._@+-]+)+")
_SYSTEM = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr")

# A directory of a repository, as it stands in a unit's file.
_PLACE = re.compile(r"[A-Za-z0-9._@+-]+(/[A-Za-z0-9._@+-]+)*")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ARTEFACT_URL = re.compile(r"https?://[!-~]+")

_PACKAGE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")

# Secrets are sent there, so only the host itself is reached without encryption.
_ORIGIN = r"(https://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])|http://(127\.0\.0\.1|localhost|\[::1\]))(:[0-9]{1,5})?"
LOGBOOK_URL = re.compile(_ORIGIN + r"(/[A-Za-z0-9._~/-]*)?")
HOOK_URL = re.compile(_ORIGIN + r"(/[!-~]*)?")


@dataclass(frozen=True)
class Rule:
    """What a setting must be beyond its type: a value for which `holds` is false is refused with `sentence`."""

    setting: str
    holds: Callable[[Any], bool]
    sentence: str  # goes on after "<setting> is <value>, but "


# Said once for the engine, which checks what it reads, and for the role `app`, which checks what is declared.
RULES = (
    Rule(
        "module",
        lambda value: not value or MODULE.fullmatch(value) is not None,
        "must be a module and the app's name in it, such as 'app.main:app' for app in app/main.py, or a function that "
        "makes the app, such as 'server:create_app'.",
    ),
    Rule(
        "auth_check",
        lambda value: not value or AUTH_CHECK.fullmatch(value) is not None,
        "must be a method and a path, such as 'POST /api/v1/deployments'.",
    ),
    Rule(
        "logbook_url",
        lambda value: not value or LOGBOOK_URL.fullmatch(value) is not None,
        "must begin with https:// (http:// only to this host itself) and end before '?'.",
    ),
    Rule(
        "health_path",
        lambda value: _URL_PATH.fullmatch(value) is not None,
        "must be a path of the app, such as '/health/ready', perhaps with a query, as a client sends it.",
    ),
    Rule(
        "needs",
        lambda value: not sandbox.unknown(value),
        f"every word must be one of {', '.join(sandbox.NEEDS)}.",
    ),
    Rule(
        "directory",
        lambda value: not value or (_is_place(value) and ".venv" not in value.split("/")),
        "must be the path of a directory in the repository, such as 'backend', without '..' and without '/' around it.",
    ),
    Rule(
        "lock_file",
        lambda value: not value or _is_place(value),
        "must be the path of a file in the repository, such as 'requirements/prod.txt'.",
    ),
    Rule(
        "artefacts",
        lambda value: all(map(_is_artefact, value)),
        "each must have a url (https://...), its sha256 in hex, and a path in the app's directory.",
    ),
    Rule(
        "build",
        lambda value: all(map(_is_command, value)),
        "each must be a command in one line, such as 'npm run build'; one that needs a shell is written sh -c '...'.",
    ),
    *(
        Rule(
            setting,
            lambda value: all(map(_PACKAGE.fullmatch, value)),
            f"each must be the name of one of the project's {setting}, such as '{usual}'.",
        )
        for setting, usual in (("extras", "postgres"), ("groups", "prod"))
    ),
    Rule(
        "build_packages",
        lambda value: all(map(_PACKAGE.fullmatch, value)),
        "each must be the name of a package, such as 'uwsgi', without a version.",
    ),
    Rule(
        "writable_paths",
        lambda value: all(map(_is_directory_for_data, value)),
        "each must be the absolute path of a directory for data, such as '/mnt/uploads', and none of the system's.",
    ),
    Rule(
        "writable_paths",
        lambda value: not any(is_inside(path, other) for path in value for other in value),
        "none may be inside of another one.",
    ),
)


@dataclass(frozen=True)
class Settings:
    """What the engine knows of one app. Times in seconds; sizes as named.

    There are no defaults: the role `app` writes every setting, with the default of roles/app/meta/argument_specs.yml
    where the inventory has no value.
    """

    app: str
    environment: str
    user: str
    build_user: str
    migrate_user: str
    env_file: Path
    migrate_env_file: Path
    directory: str  # of the repository that the app is in; "" is the top one
    module: str
    database: Literal["none", "postgresql", "mysql", "sqlite"]
    database_owner: Literal["migrate", "app"]
    database_url: str  # the variable that has the URL; "" where the app reads its parts
    database_parts: dict[str, str]  # of host, port, user, password and name: their variables
    database_passwords: dict[str, str]  # of its roles: what their passwords are called in the host's own file
    host_secrets: list[str]  # passwords that the host makes for services of its own
    filled_env: dict[str, str]  # variables of the app in which `{NAME}` stands for such a password
    filled_migrate_env: dict[str, str]  # those of its migrations
    workers: int
    root: Path
    required_env: list[str]
    generated_env: list[str]  # variables whose values the host makes
    credentials: list[str]  # variables that a slot gets as files of systemd, and not in its environment
    python: Path
    uv: Path
    uv_cache: Path
    accept: Accept
    allowed_signers: str
    health_path: str
    health_status: list[int]
    health_every: float  # between two health requests
    needs: list[str]
    network: Literal["none", "loopback", "outbound"]
    writable_paths: list[str]
    auth_check: str
    keep_releases: int
    min_free_mb: int
    min_free_inodes: int
    migrate: list[str]  # the commands that migrate; ALEMBIC alone is what Slipway does with alembic, none is nothing
    after_migrate: list[str]
    data: list[str]  # paths below `directory` that are kept in the data directory
    migrate_timeout: int
    on_incompatible: Literal["stop", "continue"]
    start_deadline: float
    start_answers: int
    watch_seconds: float
    watch_max_error_ratio: float
    watch_min_requests: int
    watch_url: str
    watch_port: int
    access_log: str
    certificate: str
    drain_seconds: float
    standby_minutes: int
    timeout: float  # of Gunicorn, for a worker that gives no sign of life
    graceful_timeout: float  # that a worker has to finish its requests
    build_timeout: float
    # Between two phases; of several hosts one waits over the phase of another, so longer than most.
    lease_seconds: float
    logbook_url: str
    logbook_ca: str
    logbook_repository_url: str
    build_packages: list[str]
    lock_file: str  # of the repository; "" is the one that is found
    extras: list[str]
    groups: list[str]
    allow_unpinned: bool
    build: list[str]  # commands that are run when a release is built
    artefacts: list[dict[str, str]]  # files for a release from elsewhere: url, sha256, path
    processes: dict[str, Any]  # beside the web process: name -> {run, count, stop_seconds}
    schedule: dict[str, Any]  # name -> {run, at, catch_up, timeout}
    overlap: Literal["slots", "none"]  # whether two releases may run side by side

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
    def records(self) -> Path:
        """What was installed for releases whose commits do not pin it."""
        return self.root / "packages"

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
        """The app's hooks; apart from the settings, as the URL of a webhook is a secret."""
        return SETTINGS_DIRECTORY / f"{self.app}.hooks.json"

    @property
    def health_headers_file(self) -> Path:
        """Headers that health requests have besides those of every request; apart, as a token may be among them."""
        return SETTINGS_DIRECTORY / f"{self.app}.health-headers.json"

    @property
    def build_env_file(self) -> Path:
        """Variables of what builds releases; apart, as the address of a package index may have credentials in it."""
        return SETTINGS_DIRECTORY / f"{self.app}.build.env"

    @property
    def generated_env_file(self) -> Path:
        """Values that were made on the host; apart, as what the inventory says is written over again."""
        return SETTINGS_DIRECTORY / f"{self.app}.generated.env"

    @property
    def migrates(self) -> Migrates:
        """How the database is migrated."""
        return "nothing" if not self.migrate else "alembic" if self.migrate == [ALEMBIC] else "commands"

    @property
    def knows_revision(self) -> bool:
        """Whether the engine can tell at which revision the database is, and change its schema back."""
        return self.migrates == "alembic" and self.database == "postgresql"

    @property
    def migration_user(self) -> str:
        """Who migrates: only PostgreSQL has a role of its own for it, and files of SQLite are the app's."""
        return self.migrate_user if self.database == "postgresql" else self.user

    @property
    def kept(self) -> Path:
        """Where the paths of `data` are; below a directory of the app's user, so root follows nothing in it."""
        return self.data_directory / "data"

    @property
    def data_directory(self) -> Path:
        """What the app writes itself; no release and no slot is part of it, and no deploy touches it."""
        return DATA_DIRECTORY / self.app

    @property
    def lock(self) -> Path:
        return RUN_DIRECTORY / f"{self.app}.lock"

    @property
    def standby(self) -> Path:
        """What is paused; absent when nothing is."""
        return RUN_DIRECTORY / f"{self.app}.standby.json"

    @property
    def slot_inputs(self) -> list[Path]:
        """Files outside of a release that shape a running slot: a change to one is a reason to deploy."""
        return [
            self.env_file,
            self.generated_env_file,
            self.env_file.with_name("gunicorn.conf.py"),
            UNIT_DIRECTORY / f"{self.app}@.service",
            *(UNIT_DIRECTORY / f"{self.app}.{name}@.service" for name in (*self.processes, *self.schedule)),
        ]

    def slot(self, name: str) -> Path:
        return self.root / "slots" / name

    def release(self, name: str) -> Path:
        return self.releases / name

    def workdir(self, release: Path) -> Path:
        """Where the app runs, and all that runs for it; its virtualenv is at the top of the release."""
        return release / self.directory


def _is_place(path: str) -> bool:
    return _PLACE.fullmatch(path) is not None and not {".", ".."} & set(path.split("/"))


def _is_artefact(item: Mapping[str, str]) -> bool:
    if set(item) != {"url", "sha256", "path"} or not all(isinstance(value, str) for value in item.values()):
        return False
    return bool(_ARTEFACT_URL.fullmatch(item["url"]) and _SHA256.fullmatch(item["sha256"]) and _is_place(item["path"]))


def _is_command(command: str) -> bool:
    try:
        return bool(shlex.split(command)) and "\n" not in command and "\0" not in command
    except ValueError:  # a quote is open
        return False


def _is_directory_for_data(path: str) -> bool:
    parts = path.split("/")
    return _DIRECTORY.fullmatch(path) is not None and ".." not in parts and f"/{parts[1]}" not in _SYSTEM


def is_inside(path: str, other: str) -> bool:
    """Whether a path is below another one: who owns that could put a link there before the path is made."""
    return PurePosixPath(other) in PurePosixPath(path).parents


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
        text = files.read_text(path)
    except FileNotFoundError:
        known = ", ".join(installed(directory)) or "none"
        raise RefusedError(
            f"No app '{app}' on this host (there is no {path}; apps here: {known}). Provision it with site.yml."
        ) from None
    try:
        return parse(tomllib.loads(text), source=str(path))
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{path} is not TOML ({error}). Run site.yml to write it again.") from None


def installed(directory: Path = SETTINGS_DIRECTORY) -> list[str]:
    """Names of the apps that this host carries, sorted."""
    return sorted(path.stem for path in directory.glob("*.toml") if path.stem not in OF_THE_HOST)


def parse(values: Mapping[str, Any], source: str) -> Settings:
    """Build Settings from decoded TOML; RefusedError names `source` and the first key that is wrong.

    Keys that are no field of Settings are left alone: the file holds all settings of the app, also those that only
    other parts of the host read, or a newer engine.
    """
    arguments: dict[str, Any] = {}
    for name, hint in get_type_hints(Settings).items():
        if name not in values:
            raise RefusedError(f"{source}: '{name}' is missing. Run site.yml to write the file again.")
        arguments[name] = _convert(values[name], hint, f"{source}: '{name}'")
    settings = Settings(**arguments)
    for rule in RULES:
        value = getattr(settings, rule.setting)
        if not rule.holds(value):
            raise RefusedError(f"{source}: '{rule.setting}' is '{value}', but {rule.sentence}")
    if settings.accept == "signed-tags" and not settings.allowed_signers:
        raise RefusedError(f"{source}: 'accept' is 'signed-tags', which needs 'allowed_signers'.")
    if settings.workers < 1:
        raise RefusedError(f"{source}: 'workers' is {settings.workers}, but must be 1 or more.")
    return settings


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Check `value` against a field's type; paths come as strings and floats may come as integers."""
    origin = get_origin(hint) or hint
    if origin is Literal:
        if value in (choices := get_args(hint)):
            return value
        raise RefusedError(f"{where} is '{value}', but must be one of {', '.join(choices)}.")
    if origin is Path and isinstance(value, str):
        return Path(value)
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is dict and isinstance(value, dict):
        return value
    if isinstance(hint, types.GenericAlias) and isinstance(value, origin):
        kind = get_args(hint)[-1]
        if all(isinstance(member, get_origin(kind) or kind) for member in value):
            return value
    elif isinstance(value, origin) and not (origin is int and isinstance(value, bool)):
        return value
    raise RefusedError(f"{where} is {value!r}, but must be of type {getattr(hint, '__name__', hint)}.")
