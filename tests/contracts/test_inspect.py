"""`slipway inspect`: what is proposed for repositories of different shapes, all made up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from hosts.scratch import PROJECT
from slipway.base.errors import FailedError, RefusedError
from slipway.inspect import report
from slipway.inspect.proposal import Proposal
from slipway.inspect.python import allows, without_wheel
from slipway.inspect.render import entry, flow
from slipway.inspect.tree import Tree

MAIN = "from fastapi import FastAPI\n\napp = FastAPI()\n"


def _tree(root: Path, files: Mapping[str, str]) -> Tree:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return Tree(root)


def _proposed(root: Path, files: Mapping[str, str], year: int = 0) -> Proposal:
    return report.propose(_tree(root, files), "shop", "https://git.example.com/shop.git", year)


def _lines(root: Path, files: Mapping[str, str]) -> dict[str, Any]:
    """The entry as an inventory reads it."""
    proposal = _proposed(root, files)
    lines: dict[str, Any] = yaml.safe_load(entry(proposal))["apps"]["shop"]
    assert set(lines) <= set(proposal.lines)
    return lines


def test_a_small_app_needs_little(tmp_path: Path) -> None:
    lines = _lines(tmp_path, {"main.py": MAIN, "requirements.txt": "fastapi==0.115.0\n"})
    assert lines == {
        "repository": "https://git.example.com/shop.git",
        "accept": "commits",
        "allow_unpinned": True,
        "domains": ["shop.example.com"],
        "module": "main:app",
        "health": "/openapi.json",
        "database": "none",
        "required_env": [],
    }


MONOREPO = {
    "compose.yml": """
services:
  db: {image: "postgres:17"}
  cache: {image: "redis:7"}
  api:
    build: {context: backend}
    command: uvicorn shop.main:app --reload
    env_file: .env.example
  jobs:
    build: {context: backend}
    command: watchmedo auto-restart -- celery -A shop.jobs worker -l info --logfile=logs/celery.log
  beat:
    build: {context: backend}
    command: sh -c "sleep 3 && celery -A shop.jobs beat"
  flower:
    build: {context: backend}
    command: celery -A shop.jobs flower
""",
    ".env.example": "PROJECT=Shop\nREDIS_URL=redis://cache:6379/0\n",
    "backend/Dockerfile": """
FROM python:3.12-slim AS base
RUN apt-get update && apt-get install -y --no-install-recommends libmagic1 gcc=4 \\
    curl && rm -rf /var/lib/apt/lists/*
WORKDIR /srv
CMD ["./start.sh"]
""",
    "backend/start.sh": "#!/bin/sh\nset -e\nalembic upgrade head\npython -m shop.seed\nexec uvicorn shop.main:app\n",
    "backend/alembic.ini": "[alembic]\nscript_location = migrations\nsqlalchemy.url = postgresql://me:secret@db/shop\n",
    "backend/migrations/env.py": "from shop.settings import settings\n",
    "backend/uv.lock": "",
    "backend/pyproject.toml": "[project]\nname = 'shop'\nrequires-python = '>=3.12'\n",
    "backend/shop/__init__.py": "",
    "backend/shop/settings.py": """
from pydantic import PostgresDsn
from pydantic_settings import BaseSettings, SettingsConfigDict

class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="")
    PROJECT: str
    API: str = "/api/v1"
    SECRET_KEY: str
    STRIPE_SECRET_KEY: str
    POSTGRES_SERVER: str
    POSTGRES_USER: str
    POSTGRES_PASSWORD: str
    POSTGRES_DB: str
    REDIS_URL: str
    CORS_ORIGINS: list[str]
    TITLE: str = "Shop"

    def url(self) -> str:
        return str(PostgresDsn.build(scheme="postgresql+psycopg", host=self.POSTGRES_SERVER))

settings = Settings()
""",
    "backend/shop/seed.py": "print()\n",
    "backend/shop/jobs.py": "from shop.settings import settings\n",
    "backend/shop/routes/__init__.py": "from shop.routes.health import router\n",
    "backend/shop/routes/health.py": """
from fastapi import APIRouter, Depends
router = APIRouter(prefix="/utils")

@router.get("/status/{item}")
def status(item): ...

@router.get("/me/ping")
def mine(user=Depends(current_user)): ...

@router.get("/health-check/")
async def check() -> bool: ...
""",
    "backend/shop/main.py": """
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from shop.routes import router
from shop.settings import settings
import os

UPLOADS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "uploads")
os.makedirs(UPLOADS, exist_ok=True)

def make() -> FastAPI:
    app = FastAPI(openapi_url=f"{settings.API}/openapi.json")
    app.include_router(router, prefix=settings.API)
    app.mount("/assets", StaticFiles(directory="shop/assets"), name="assets")
    return app

app = make()
""",
    "backend/shop/assets/app.css": "",
}


def test_a_monorepo_with_everything_beside_it(tmp_path: Path) -> None:
    proposal = _proposed(tmp_path, MONOREPO)
    lines = proposal.lines
    assert lines["directory"] == "backend"
    assert lines["python"] == "3.12"
    assert lines["packages"] == ["libmagic1"]
    assert lines["module"] == "shop.main:app"
    assert lines["health"] == "/api/v1/utils/health-check/"
    assert lines["database"] == {
        "host": "POSTGRES_SERVER",
        "user": "POSTGRES_USER",
        "password": "POSTGRES_PASSWORD",
        "name": "POSTGRES_DB",
        "scheme": "postgresql+psycopg",
    } or lines["database"] == {
        "host": "POSTGRES_SERVER",
        "user": "POSTGRES_USER",
        "password": "POSTGRES_PASSWORD",
        "name": "POSTGRES_DB",
    }
    assert lines["after_migrate"] == ["python -m shop.seed"]
    assert lines["services"] == {"redis": {"url": "REDIS_URL"}}
    assert lines["secrets"] == ["SECRET_KEY"]
    assert lines["env"] == {
        "PROJECT": "Shop",
        "STRIPE_SECRET_KEY": "{{ vault_shop_stripe_secret_key }}",
        "CORS_ORIGINS": '["https://shop.example.com"]',
    }
    assert lines["processes"] == {
        "jobs": "celery -A shop.jobs worker -l info --logfile=logs/celery.log",
        "beat": {"run": "celery -A shop.jobs beat", "count": 1},
    }
    assert sorted(lines["data"]) == ["logs/", "uploads/"]
    assert lines["static"] == {"/assets/": "shop/assets"}
    warnings = "\n".join(proposal.warnings)
    assert "address of a database" in warnings
    assert "STRIPE_SECRET_KEY comes from another party: put vault_shop_stripe_secret_key" in warnings
    assert "monitor" in warnings


def test_every_line_but_the_address_has_its_reason(tmp_path: Path) -> None:
    proposal = _proposed(tmp_path, MONOREPO)
    assert {key for key in proposal.lines if not proposal.reasons.get(key)} == {"repository"}
    assert all(len(line) <= 120 for line in entry(proposal).splitlines() if line.lstrip().startswith("#"))


@pytest.mark.parametrize(
    ("files", "key", "value"),
    [
        ({"src/shop/web.py": MAIN, "Procfile": "web: uvicorn shop.web:app"}, "directory", None),
        (
            {"shop/__init__.py": "", "shop/web.py": "def create_app():\n    return FastAPI()\n"},
            "module",
            "shop.web:create_app()",
        ),
        ({"api/main.py": MAIN, "Procfile": "web: uvicorn --app-dir api main:app"}, "directory", "api"),
        ({"api/x.py": MAIN, "pyproject.toml": "[tool.fastapi]\nentrypoint = 'api.x:app'"}, "module", "api.x:app"),
        ({"a/b.py": MAIN, "run.py": "import uvicorn\nuvicorn.run('a.b:app')\n"}, "module", "a.b:app"),
        ({"main.py": MAIN, "deploy/requirements.txt": "fastapi==1"}, "lock", "deploy/requirements.txt"),
        ({"main.py": MAIN, "runtime.txt": "python-3.10.4"}, "python", "3.10"),
        ({"main.py": MAIN, "Dockerfile": "FROM ghcr.io/astral-sh/uv:python3.12-alpine"}, "python", "3.12"),
        ({"main.py": f"{MAIN}\n@app.get('/x/livez')\ndef f(): ...\n"}, "health", "/x/livez"),
        ({"main.py": MAIN.replace("()", "(openapi_url='/a.json')")}, "health", "/a.json"),
        (
            {"main.py": MAIN.replace("()", "(openapi_url=None)")},
            "health",
            {"path": "/", "status": [200, 404]},
        ),
        ({"main.py": MAIN, "render.yaml": "services: [{type: web, healthCheckPath: /up}]"}, "health", "/up"),
        ({"main.py": f"{MAIN}import sqlite3\ndb = sqlite3.connect('store/shop.db')\n"}, "data", ["store/"]),
        ({"main.py": f"{MAIN}URL = 'sqlite:///./shop.db'\n"}, "database", "sqlite"),
        ({"main.py": f"{MAIN}import os\nenv = os.environ['APP_TOKEN']\n"}, "secrets", ["APP_TOKEN"]),
        (
            {"main.py": f"{MAIN}from apscheduler import x\ns = x.AsyncIOScheduler()\n"},
            "overlap",
            "none",
        ),
        ({"main.py": MAIN, "Procfile": "web: uvicorn main:app\nmail: arq m.W"}, "processes", {"mail": "arq m.W"}),
        (
            {
                "main.py": MAIN,
                "render.yaml": "services: [{type: cron, name: n, schedule: 0 3 * * *, startCommand: x y}]",
            },
            "schedule",
            {"n": {"run": "x y", "at": "0 3 * * *"}},
        ),
        (
            {"main.py": f"{MAIN}import logging.handlers as h\nh.RotatingFileHandler('log/app.log')\n"},
            "data",
            ["log/"],
        ),
        (
            {
                "main.py": f"{MAIN}import os\nu = os.environ['DATABASE_URL']\n",
                ".env.example": "DATABASE_URL=mysql+pymysql://x",
            },
            "database",
            {"kind": "mariadb", "url": "DATABASE_URL", "scheme": "mysql+pymysql"},
        ),
        (
            {
                "main.py": f"{MAIN}import os\nu = os.environ['DB_URL']\nmeta.create_all(e)\n",
                "requirements.txt": "asyncpg==1",
            },
            "database",
            {"url": "DB_URL", "scheme": "postgresql", "owner": "app"},
        ),
        (
            {
                "main.py": f"{MAIN}import os\nu = os.environ['DB_URL']\ncommand.upgrade(c, 'head')\n",
                "Pipfile.lock": '{"default": {"psycopg2": {"version": "==2"}}}',
            },
            "migrate",
            False,
        ),
    ],
)
def test_a_sign_gives_a_line(tmp_path: Path, files: dict[str, str], key: str, value: Any) -> None:
    if "requirements.txt" not in files and "pyproject.toml" not in files and key == "directory":
        files = {**files, "requirements.txt": "fastapi==1\n"}
    assert _lines(tmp_path, files).get(key) == value


TORTOISE = """
import os
from aerich import Command

HERE = os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir))
TORTOISE = {"connections": {"x": {"engine": "tortoise.backends.sqlite", "credentials": {"file_path": f"{HERE}/a.db"}}}}

async def start():
    command = Command(tortoise_config=TORTOISE)
    await command.upgrade(True)
"""


def test_an_app_that_migrates_itself_writes_its_migrations(tmp_path: Path) -> None:
    files = {"shop/__init__.py": "", "shop/db.py": TORTOISE, "shop/main.py": f"{MAIN}from shop.db import start\n"}
    lines = _lines(tmp_path, {**files, "pyproject.toml": "[tool.aerich]\nlocation = './migrations'\n"})
    assert (lines["database"], lines["migrate"]) == ("sqlite", False)
    assert lines["data"] == ["a.db", "migrations/"]


HOSTS = """
class Settings(BaseSettings):
    ALLOWED: list[str] = ["localhost"]
settings = Settings()
app.add_middleware(TrustedHostMiddleware, allowed_hosts=settings.ALLOWED)
"""


def test_hosts_that_are_let_in_are_the_domains(tmp_path: Path) -> None:
    assert _lines(tmp_path, {"main.py": MAIN + HOSTS})["env"] == {"ALLOWED": '["shop.example.com"]'}


@pytest.mark.parametrize(
    ("files", "warning"),
    [
        ({"requirements.txt": "uvicorn==0.18.2\n"}, "has uvicorn 0.18.2, and Slipway serves with 0.22"),
        ({"poetry.lock": "# git+https\n"}, "dependencies from git"),
        ({".env": "SECRET_KEY=x\n"}, ".env is in git"),
        ({"web/package.json": '{"scripts": {"build": "x"}}'}, "web has a frontend that the app does not serve"),
        ({"docker-compose.yml": "services: {x: {image: 'rabbitmq:3'}}"}, "RabbitMQ, which Slipway does not provide"),
        (
            {
                "alembic.ini": "[alembic]\nscript_location = %(here)s/alembic\n",
                "alembic/env.py": "config.set_main_option('sqlalchemy.url', url)\n",
                "alembic/versions/a.py": "revision = 'a'\ndown_revision = None\n",
                "alembic/versions/b.py": "revision: str = 'b'\ndown_revision: str | None = 'a'\n",
                "alembic/versions/c.py": "revision = 'c'\ndown_revision = 'a'\n",
            },
            "alembic has 2 heads (b, c)",
        ),
        ({"{{cookiecutter.name}}/a.py": ""}, "a template with placeholders"),
        ({".gitmodules": "x"}, "submodules"),
        ({"app.json": '{"addons": ["heroku-redis"], "env": {}}', "requirements.txt": "redis==5"}, "address of Redis"),
    ],
)
def test_what_surprises_is_warned_of(tmp_path: Path, files: dict[str, str], warning: str) -> None:
    proposal = _proposed(tmp_path, {"main.py": MAIN, **files})
    assert [text for text in proposal.warnings if warning in text]
    assert f"# Warning: {proposal.warnings[0].split()[0]}" in entry(proposal)


def test_the_frontend_that_an_app_serves_is_built(tmp_path: Path) -> None:
    files = {
        "api/Dockerfile": "FROM node AS ui\nFROM python:3.12\nWORKDIR /app/api\nCOPY --from=ui /ui/dist /app/api/dist",
        "api/pyproject.toml": "[tool.fastapi]\nentrypoint = 'main:app'\n",
        "api/main.py": f"{MAIN}app.mount('/', StaticFiles(directory='dist', html=True))\n",
        "ui/package.json": '{"scripts": {"build": "x"}}',
        "ui/package-lock.json": "{}",
    }
    lines = _proposed(tmp_path, files).lines
    assert lines["build"] == ["npm --prefix ../ui ci", "npm --prefix ../ui run build"]
    assert lines["packages"] == ["nodejs", "npm"]


def test_nested_settings_are_named_as_pydantic_names_them(tmp_path: Path) -> None:
    settings = """
class Database(BaseModel):
    host: str
    name: str
    user: str = "me"
    password: str

class Settings(BaseSettings):
    model_config = {"env_prefix": "SHOP_", "env_nested_delimiter": "__"}
    db: Database
    signing_key: SecretStr
    mode: Literal["debug", "prod"] = "debug"
    page: int = Field(alias="PAGE_SIZE")
"""
    files = {"main.py": f"{MAIN}{settings}", "requirements.txt": "asyncpg==0.30\n"}
    lines = _lines(tmp_path, files)
    assert lines["secrets"] == ["SHOP_SIGNING_KEY"]
    assert lines["database"]["host"] == "SHOP_DB__HOST"
    assert lines["env"] == {"SHOP_MODE": "prod", "PAGE_SIZE": "1"}


def test_nothing_of_the_repository_is_run_and_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("STOLEN_NAME=1")
    root = tmp_path / "repository"
    touched = tmp_path / "touched"
    tree = _tree(
        root,
        {
            "main.py": f"{MAIN}open({str(touched)!r}, 'w')\n",
            "setup.py": f"open({str(touched)!r}, 'w')\n",
            "docker-compose.yml": f"services: !!python/object/apply:os.system ['touch {touched}']\n",
        },
    )
    (root / ".env.example").symlink_to(tmp_path / "secret.txt")
    (root / "away").symlink_to(tmp_path)
    lines = report.propose(Tree(root), "shop", "x").lines
    assert lines["module"] == "main:app"
    assert not touched.exists()
    assert tree.text(".env.example") == ""
    assert Tree(root).text(".env.example") == ""
    assert Tree(root).text("away/secret.txt") == ""


@pytest.mark.parametrize(
    "text",
    [
        "admin@example.com",
        "{{ vault_x }}",
        "yes",
        "3.11",
        "a: b",
        "a, b",
        "{x}",
        "",
        "sh -c 'a && b'",
        "ü\n",
        "0x1f",
        "#",
    ],
)
def test_a_text_stays_a_text(text: str) -> None:
    assert yaml.safe_load(f"{{key: {flow(text)}}}") == {"key": text}


@pytest.mark.parametrize(
    ("text", "version", "allowed"),
    [
        (">=3.11", (3, 10), False),
        (">=3.11,<3.13", (3, 12), True),
        (">=3.11,<3.13", (3, 13), False),
        ("^3.9", (3, 13), True),
        ("~3.10", (3, 11), False),
        ("3.8.*", (3, 8), True),
        ("<3.12.5", (3, 12), True),
        ("3.9 || 3.11", (3, 11), True),
    ],
)
def test_a_constraint_on_python(text: str, version: tuple[int, int], *, allowed: bool) -> None:
    assert allows(text, version) is allowed


def test_wheels_tell_which_python() -> None:
    locked = {
        "fast": ["fast-1-cp311-cp311-manylinux_2_17_x86_64.whl", "fast-1-cp312-cp312-win_amd64.whl"],
        "pure": ["pure-1-py3-none-any.whl"],
        "stable": ["stable-1-cp37-abi3-manylinux_2_17_x86_64.whl"],
        "source": ["source-1.tar.gz"],
    }
    assert without_wheel(locked, (3, 11)) == ""
    assert without_wheel(locked, (3, 12)) == "fast"


def test_what_is_no_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="neither a directory nor the URL"):
        report.inspect(str(tmp_path / "absent"))
    with pytest.raises(FailedError, match="No FastAPI application was found"):
        report.inspect(str(tmp_path))


def test_the_command_clones_what_is_elsewhere(tmp_path: Path) -> None:
    work = tmp_path / "My Shop"
    _tree(work, {"main.py": MAIN})
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"], ["tag", "v1.0.0"]):
        subprocess.run(["git", "-C", str(work), "-c", "user.name=x", "-c", "user.email=x@x", *command], check=True)
    url = work.as_uri()
    shown = subprocess.run(
        [sys.executable, "-m", "slipway", "inspect", url], capture_output=True, text=True, check=True, cwd=PROJECT
    ).stdout
    lines = yaml.safe_load(shown)["apps"]["my-20shop"]
    assert lines["module"] == "main:app"
    assert "accept" not in lines  # there are tags of versions


def test_hosts_do_not_get_this_room(tmp_path: Path) -> None:
    from slipway.controller import zipapp

    zipapp.write(tmp_path / "slipway")
    shown = subprocess.run(
        [sys.executable, "-IS", str(tmp_path / "slipway"), "inspect", "."], capture_output=True, text=True, check=False
    )
    assert shown.returncode == RefusedError.exit_code
    assert "a command of the controller" in shown.stdout + shown.stderr
