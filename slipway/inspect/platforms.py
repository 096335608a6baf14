"""Where people come from: docker-compose, Procfile, render.yaml, fly.toml, app.json. Their commands and variables."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from slipway.inspect import docker
from slipway.inspect.commands import Command, simple
from slipway.inspect.tree import Tree, joined, parent

COMPOSE = re.compile(r"^(docker-)?compose([.-][\w.-]+)?\.ya?ml$")
# What a service of docker-compose is called that runs on, beside the web process, by a program of the app's own.
_PROCESS = re.compile(
    r"worker|consumer|beat\b|scheduler|listener|subscriber|queue|\bbot\b|dispatcher|outbox|poller|relay\b|daemon",
    re.IGNORECASE,
)
_PRODUCT = re.compile(
    r"postgres|redis|valkey|mysql|mariadb|mongo|rabbitmq|nginx|traefik|adminer|minio|caddy|prometheus|grafana|mail|node|"
    r"kafka|elastic|flower|memcached|localstack|certbot"
)
_ASIDE = re.compile(r"test|override|dev|local|debug|ha\b|monitor|otlp|proxy", re.IGNORECASE)


@dataclass
class Service:
    """A service of a compose file."""

    name: str
    origin: str
    folder: str  # of the build's context
    image: str = ""
    builds: bool = False
    dockerfile: str = ""
    command: Any = ""
    entrypoint: Any = ""
    env: dict[str, str] = field(default_factory=dict)
    env_files: list[str] = field(default_factory=list)
    volumes: list[tuple[str, str]] = field(default_factory=list)
    health: str = ""


@dataclass
class Platforms:
    services: list[Service] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    env: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> value, where it stands
    health: tuple[str, str] = ("", "")
    generated: set[str] = field(default_factory=set)
    read: list[str] = field(default_factory=list)
    python: tuple[str, str] = ("", "")


def find(tree: Tree) -> Platforms:
    found = Platforms()
    for name in _compose_files(tree):
        _compose(tree, name, found)
    for name in tree.named("Procfile")[:3]:
        _procfile(tree, name, found)
    for name in tree.named("render.yaml")[:2]:
        _render(tree, name, found)
    for name in tree.named("fly.toml")[:2]:
        _fly(tree, name, found)
    for name in tree.named("app.json")[:1]:
        _heroku(tree, name, found)
    return found


def _compose_files(tree: Tree) -> list[str]:
    names = [name for name in tree.files if COMPOSE.match(name.rpartition("/")[2])]
    names = [name for name in names if not re.search(r"devcontainer|example|docs/", name)]
    main = [name for name in names if not _ASIDE.search(name.rpartition("/")[2])] or names
    return sorted(main, key=lambda name: (name.count("/"), "prod" not in name, len(name), name))[:4]


def _pairs(value: Any) -> dict[str, str]:
    if isinstance(value, dict):
        return {str(key): "" if item is None else _text(item) for key, item in list(value.items())[:200]}
    if isinstance(value, list):
        return {str(one).partition("=")[0]: str(one).partition("=")[2] for one in value[:200]}
    return {}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _compose(tree: Tree, name: str, found: Platforms) -> None:
    content = tree.yaml(name).get("services")
    if not isinstance(content, dict):
        return
    found.read.append(name)
    for key, raw in list(content.items())[:60]:
        if isinstance(raw, dict) and str(key) not in {one.name for one in found.services}:
            found.services.append(_service(name, str(key), raw))
            service = found.services[-1]
            if service.builds or (service.command and not _foreign(service.image)):
                _commands_of(tree, service, found)
                for variable, value in service.env.items():
                    found.env.setdefault(variable, (value, f"{name}, {key}"))


def _foreign(image: str) -> bool:
    """Whether an image is of a product and not of the app."""
    return bool(_PRODUCT.search(image))


def _service(name: str, key: str, raw: dict[str, Any]) -> Service:
    build = raw.get("build")
    context = (
        build if isinstance(build, str) else str((build or {}).get("context", ".")) if isinstance(build, dict) else "."
    )
    folder = joined(parent(name), context) or ""
    dockerfile = str(build.get("dockerfile", "Dockerfile")) if isinstance(build, dict) else "Dockerfile"
    files = raw.get("env_file") or []
    files = [files] if isinstance(files, (str, dict)) else files
    volumes = []
    for volume in raw.get("volumes") or []:
        if isinstance(volume, str) and ":" in volume:
            source, _, target = volume.partition(":")
            volumes.append((source, target.partition(":")[0]))
        elif isinstance(volume, dict):
            volumes.append((str(volume.get("source", "")), str(volume.get("target", ""))))
    health = raw.get("healthcheck")
    return Service(
        key, f"{name}, {key}", folder, str(raw.get("image", "")), build is not None, joined(folder, dockerfile) or "",
        raw.get("command") or "", raw.get("entrypoint") or "", _pairs(raw.get("environment")),
        [str(one.get("path", "")) if isinstance(one, dict) else str(one) for one in files], volumes,
        str(health.get("test", "")) if isinstance(health, dict) else "",
    )  # fmt: skip


def _commands_of(tree: Tree, service: Service, found: Platforms) -> None:
    """The commands of a service: those of its entrypoint, then of its command, or else of its image."""
    image = docker.read(tree, service.dockerfile) if tree.has(service.dockerfile) else docker.Dockerfile("")
    command = service.command or ("" if service.entrypoint else image.command)
    entrypoint = service.entrypoint or image.entrypoint
    for words in _started(tree, entrypoint, command, service.folder):
        named = service.command and _PROCESS.search(f"{service.name} {' '.join(words)}")
        role = "process" if named and words[0] == "python" else "service"
        found.commands.append(Command(service.name, words, service.origin, service.folder, role))


def _started(tree: Tree, entrypoint: Any, command: Any, folder: str) -> list[tuple[str, ...]]:
    if not entrypoint:
        return simple(tree, command, folder)
    first = simple(tree, entrypoint, folder)
    if isinstance(entrypoint, list) and isinstance(
        command, list
    ):  # a script that ends with exec "$@" starts the command
        both = simple(tree, [*entrypoint, *command], folder)
        first = both if len(both) >= len(first) else first
    known = {one for one in first if one}
    return first + [one for one in simple(tree, command, folder) if one not in known]


def of_dockerfile(tree: Tree, image: docker.Dockerfile) -> list[Command]:
    started = _started(tree, image.entrypoint, image.command, image.folder)
    commands = [Command("web", words, image.name, image.folder) for words in started]
    return [replace(one, name="worker") if one.kind == "worker" else one for one in commands]


def _procfile(tree: Tree, name: str, found: Platforms) -> None:
    found.read.append(name)
    for line in tree.text(name).splitlines():
        process, colon, command = line.partition(":")
        if colon and re.fullmatch(r"[\w-]+", process.strip()):
            process = process.strip()
            role = process if process in ("web", "release") else "process"
            for words in simple(tree, command.strip(), parent(name)):
                found.commands.append(Command(process, words, f"{name}, {process}", parent(name), role))


def _render(tree: Tree, name: str, found: Platforms) -> None:
    content = tree.yaml(name)
    found.read.append(name)
    for raw in [one for one in (content.get("services") or []) if isinstance(one, dict)][:30]:
        kind, key = str(raw.get("type", "web")), str(raw.get("name", "web"))
        origin, folder = f"{name}, {key}", joined(parent(name), str(raw.get("rootDir", ""))) or ""
        roles = {"web": "web", "pserv": "web", "worker": "process", "cron": "cron"}
        if kind in roles:
            title = f"{raw.get('schedule', '')}|{key}" if kind == "cron" else key
            for words in simple(tree, str(raw.get("startCommand") or raw.get("dockerCommand") or ""), folder):
                found.commands.append(Command(title, words, origin, folder, roles[kind]))
            for words in simple(tree, str(raw.get("preDeployCommand") or ""), folder):
                found.commands.append(Command(key, words, origin, folder, "release"))
        elif kind in ("redis", "keyvalue"):
            found.services.append(Service(key, origin, folder, "redis"))
        if raw.get("healthCheckPath"):
            found.health = (str(raw["healthCheckPath"]), name)
        for variable in [one for one in (raw.get("envVars") or []) if isinstance(one, dict) and one.get("key")][:200]:
            if variable.get("generateValue"):
                found.generated.add(str(variable["key"]))
            if variable["key"] == "PYTHON_VERSION":
                found.python = (str(variable.get("value", "")), name)
            else:
                found.env.setdefault(str(variable["key"]), (_text(variable.get("value", "")), name))
    if content.get("databases"):
        found.services.append(Service("database", name, "", "postgres"))


def _fly(tree: Tree, name: str, found: Platforms) -> None:
    content, folder = tree.toml(name), parent(name)
    found.read.append(name)
    processes = content.get("processes")
    for key, command in processes.items() if isinstance(processes, dict) else ():
        for words in simple(tree, str(command), folder):
            role = "web" if key in ("app", "web") else "process"
            found.commands.append(Command(str(key), words, f"{name}, {key}", folder, role))
    deploy = content.get("deploy")
    if isinstance(deploy, dict) and deploy.get("release_command"):
        for words in simple(tree, str(deploy["release_command"]), folder):
            found.commands.append(Command("release", words, name, folder, "release"))
    for variable, value in _pairs(content.get("env")).items():
        found.env.setdefault(variable, (value, name))
    service = content.get("http_service") if isinstance(content.get("http_service"), dict) else {}
    checks = service.get("checks") if isinstance(service, dict) else None
    for check in checks if isinstance(checks, list) else []:
        if isinstance(check, dict) and check.get("path"):
            found.health = (str(check["path"]), name)


def _heroku(tree: Tree, name: str, found: Platforms) -> None:
    content = tree.json(name)
    if not {"env", "addons", "buildpacks", "formation"} & set(content):
        return
    found.read.append(name)
    raw = content.get("env")
    for variable, value in raw.items() if isinstance(raw, dict) else ():
        if isinstance(value, dict) and value.get("generator") == "secret":
            found.generated.add(str(variable))
        text = value.get("value", "") if isinstance(value, dict) else value
        found.env.setdefault(str(variable), (_text(text), name))
    for addon in content.get("addons") or []:
        title = str(addon.get("plan", "") if isinstance(addon, dict) else addon)
        product = re.search(r"redis|postgres|mysql|mariadb", title)
        if product:
            found.services.append(Service(product[0], name, "", product[0]))
