"""`slipway inspect`: what is proposed for a repository, what is read of it, and how it is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hosts.scratch import PROJECT
from roles.app.module_utils import services
from slipway.base.errors import FailedError, RefusedError
from slipway.inspect import report
from slipway.inspect.proposal import Template
from slipway.inspect.python import allows, without_wheel
from slipway.inspect.render import entry, flow
from slipway.inspect.tree import Tree
from tests.contracts.inspected import MAIN, lines_of, proposed, tree


def test_a_small_app_needs_little(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, {"main.py": MAIN, "requirements.txt": "fastapi==0.115.0\n"})
    assert lines == {
        "repository": "https://git.example.com/shop.git",
        "accept": "commits",
        "allow_unpinned": True,
        "domains": ["shop.example.com"],
        "module": "main:app",
        "health": "/openapi.json",
        "database": "none",
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
    proposal = proposed(tmp_path, MONOREPO)
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
        "beat": {"run": "celery -A shop.jobs beat --schedule /var/lib/shop/celerybeat-schedule", "count": 1},
    }
    assert sorted(lines["data"]) == ["logs/", "uploads/"]
    assert lines["static"] == {"/assets/": "shop/assets"}
    warnings = "\n".join(proposal.warnings)
    assert "address of a database" in warnings
    assert "STRIPE_SECRET_KEY comes from another party: put vault_shop_stripe_secret_key" in warnings
    assert "monitor" in warnings


def test_every_line_but_the_address_has_its_reason(tmp_path: Path) -> None:
    proposal = proposed(tmp_path, MONOREPO)
    assert {key for key in proposal.lines if not proposal.reasons.get(key)} == {"repository"}
    assert all(len(line) <= 120 for line in entry(proposal).splitlines() if line.lstrip().startswith("#"))


@pytest.mark.parametrize(
    ("names", "redis", "env"),
    [
        (["REDIS_URL"], {"url": "REDIS_URL"}, {}),
        (["REDIS_HOST", "REDIS_PORT"], {"host": "REDIS_HOST", "port": "REDIS_PORT"}, {}),
        (["REDIS_URL", "CELERY_BROKER_URL"], {"url": ["REDIS_URL", "CELERY_BROKER_URL"]}, {}),
        (
            ["REDIS_URL", "A_REDIS_HOST", "B_REDIS_HOST", "A_REDIS_PORT"],
            {"host": "A_REDIS_HOST", "port": "A_REDIS_PORT", "tcp_port": 27586},
            {"B_REDIS_HOST": "127.0.0.1", "REDIS_URL": "redis://127.0.0.1:27586/0"},
        ),
    ],
)
def test_redis_under_all_its_names(tmp_path: Path, names: list[str], redis: object, env: dict[str, str]) -> None:
    reads = "".join(f"os.environ[{name!r}]\n" for name in names)
    lines = lines_of(tmp_path, {"main.py": f"{MAIN}import os\n{reads}", "requirements.txt": "redis==5\n"})
    assert lines["services"] == {"redis": redis}
    form = services.whole(lines["services"])["redis"]
    assert services.port(form, "shop") == services.port({**form, "tcp_port": 0}, "shop")  # that of every other entry
    assert lines.get("env", {}) == env


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
    lines = lines_of(tmp_path, files)
    assert lines["secrets"] == ["SHOP_SIGNING_KEY"]
    assert lines["database"]["host"] == "SHOP_DB__HOST"
    assert lines["env"] == {"SHOP_MODE": "prod", "PAGE_SIZE": "1"}


def test_nothing_of_the_repository_is_run_and_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("STOLEN_NAME=1")
    root = tmp_path / "repository"
    touched = tmp_path / "touched"
    files = tree(
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
    assert files.text(".env.example") == ""
    assert Tree(root).text(".env.example") == ""
    assert Tree(root).text("away/secret.txt") == ""


@pytest.mark.parametrize(
    "text",
    [
        "admin@example.com",
        Template("{{ vault_x }}"),
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
    tree(work, {"main.py": MAIN})
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
