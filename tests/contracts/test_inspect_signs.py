"""`slipway inspect`: sign by sign, what it gives."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from slipway.inspect.render import entry
from tests.contracts.inspected import MAIN, lines_of, proposed, tree


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
    assert lines_of(tmp_path, files).get(key) == value


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
    lines = lines_of(tmp_path, {**files, "pyproject.toml": "[tool.aerich]\nlocation = './migrations'\n"})
    assert (lines["database"], lines["migrate"]) == ("sqlite", False)
    assert lines["data"] == ["a.db", "migrations/"]


HOSTS = """
class Settings(BaseSettings):
    ALLOWED: list[str] = ["localhost"]
settings = Settings()
app.add_middleware(TrustedHostMiddleware, allowed_hosts=settings.ALLOWED)
"""


def test_hosts_that_are_let_in_are_the_domains(tmp_path: Path) -> None:
    assert lines_of(tmp_path, {"main.py": MAIN + HOSTS})["env"] == {"ALLOWED": '["shop.example.com"]'}


@pytest.mark.parametrize(
    ("files", "warning"),
    [
        ({"requirements.txt": "uvicorn==0.11.3\n"}, "has uvicorn 0.11.3, and Slipway serves with 0.12"),
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
    proposal = proposed(tmp_path, {"main.py": MAIN, **files})
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
    lines = proposed(tmp_path, files).lines
    assert lines["build"] == ["npm --prefix ../ui ci", "npm --prefix ../ui run build"]
    assert "packages" not in lines  # npm comes by itself


def test_a_url_that_is_taken_apart_has_a_password_and_a_port(tmp_path: Path) -> None:
    code = f"{MAIN}import os\nfrom urllib.parse import urlparse\nDATABASE_URL = os.environ['DATABASE_URL']\n"
    files = {"main.py": f"{code}parsed = urlparse(DATABASE_URL)\n", "requirements.txt": "asyncpg==1\n"}
    assert lines_of(tmp_path, files)["database"]["tcp"] is True


def test_tables_that_nobody_makes_want_no_owner(tmp_path: Path) -> None:
    code = f"{MAIN}import os\nu = os.environ['DATABASE_URL']\ndef make():\n    meta.create_all(e)\n"
    files = {"main.py": code, "requirements.txt": "asyncpg==1\n"}
    assert "owner" not in lines_of(tmp_path, files)["database"]
    assert lines_of(tmp_path, {"main.py": f"{code}make()\n"})["database"]["owner"] == "app"


def test_an_app_that_is_started_by_its_path_is_found_from_where_it_imports(tmp_path: Path) -> None:
    main = f"from app.routes import x\n{MAIN}import uvicorn\nif __name__ == '__main__':\n    uvicorn.run('main:app')\n"
    files = {"back/app/main.py": main, "back/app/routes.py": "x = 1\n", "back/requirements.txt": "fastapi==1\n"}
    lines = lines_of(tmp_path, files)
    assert (lines["directory"], lines["module"]) == ("back", "app.main:app")


def test_no_description_in_production(tmp_path: Path) -> None:
    code = MAIN.replace("app = FastAPI()", "options = {}\noptions.update(openapi_url=None)\napp = FastAPI(**options)")
    assert lines_of(tmp_path, {"main.py": code})["health"] == {"path": "/", "status": [200, 404]}


# What a repository has is not run and not obeyed


def test_a_value_of_a_repository_is_never_a_template(tmp_path: Path) -> None:
    text = entry(
        proposed(
            tmp_path,
            {
                "main.py": MAIN
                + "import os\nos.environ['GREETING']\nos.environ['STRIPE_API_KEY']\nos.environ['}} {{ x']\n",
                ".env.example": "GREETING={{ lookup('pipe', 'id') }}\n",
                "requirements.txt": "fastapi\n",
            },
        )
    )
    assert "GREETING: !unsafe \"{{ lookup('pipe', 'id') }}\"" in text
    assert 'STRIPE_API_KEY: "{{ vault_shop_stripe_api_key }}"' in text
    assert "}} {{ x" not in text


def test_a_name_in_a_comment_says_nothing_to_a_terminal(tmp_path: Path) -> None:
    text = entry(proposed(tmp_path, {"a\x1b[2Jb.py": MAIN, "requirements.txt": "fastapi\n"}))
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("name", "said"),
    [("pdm.lock", "pdm export"), ("environment.yml", "packages of conda"), ("setup.py", "uv pip compile setup.py")],
)
def test_a_file_that_is_not_read_is_named(tmp_path: Path, name: str, said: str) -> None:
    found = proposed(tmp_path, {"main.py": MAIN, name: "", "pyproject.toml": '[project]\nname = "shop"\n'})
    assert any(name in warning and said in warning for warning in found.warnings)


def test_requirements_as_powershell_writes_them_are_read(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_bytes("fastapi\r\nasyncpg\r\n".encode("utf-16"))
    assert tree(tmp_path, {}).text("requirements.txt") == "fastapi\nasyncpg\n"


CONFIG = """
from pydantic_settings import BaseSettings
class Settings(BaseSettings):
    version: str = "v1"
    prefix: str = f"/api/{version}"
    db_host: str
    db_user: str
    db_name: str
    testing: bool
    api_secret_key: str
    razorpay_secret: str
    log_secret_patterns: str = "password,token"
    pgadmin_default_password: str = "admin"
settings = Settings()
"""


def test_modules_that_are_imported_with_src_and_without_it_are_both_read(tmp_path: Path) -> None:
    files = {
        "src/main.py": f"from parts import x\n{MAIN}",
        "src/parts.py": "from src.config import settings\nx = settings\n",
        "src/config.py": CONFIG,
        "requirements.txt": "asyncpg==1\n",
    }
    lines = lines_of(tmp_path, files)
    assert lines["database"] == {"host": "DB_HOST", "user": "DB_USER", "name": "DB_NAME"}
    assert lines["secrets"] == ["API_SECRET_KEY"]
    assert lines["env"] == {"TESTING": "false", "RAZORPAY_SECRET": "{{ vault_shop_razorpay_secret }}"}


def test_the_health_check_of_an_image_has_the_slash_of_its_route(tmp_path: Path) -> None:
    """FastAPI answers with a redirect without it. The prefix is made of another setting."""
    route = "@router.get('/health/')\ndef f(): ...\n"
    main = f"from config import settings\nfrom routes import router\n{MAIN}"
    files = {
        "main.py": f"{main}app.include_router(router, prefix=settings.prefix)\n",
        "routes.py": f"from fastapi import APIRouter\nrouter = APIRouter()\n{route}",
        "config.py": CONFIG,
        "Dockerfile": "FROM python:3.12\nHEALTHCHECK CMD curl -f http://localhost:8000/api/v1/health\n",
    }
    assert lines_of(tmp_path, files)["health"] == "/api/v1/health/"


@pytest.mark.parametrize(
    ("command", "run"),
    [
        ("celery -A x beat --schedule=/app/due.db -l info", "celery -A x beat -l info --schedule {}"),
        ("celery -A x beat -s due --pidfile= ", "celery -A x beat --schedule {}"),
        ("celery -A x beat -S redbeat.RedBeatScheduler", "celery -A x beat -S redbeat.RedBeatScheduler"),
    ],
)
def test_what_is_due_is_kept_where_it_can_be_written(tmp_path: Path, command: str, run: str) -> None:
    lines = lines_of(tmp_path, {"main.py": MAIN, "Procfile": f"web: uvicorn main:app\nbeat: {command}"})
    assert lines["processes"] == {"beat": {"run": run.format("/var/lib/shop/celerybeat-schedule"), "count": 1}}


def test_the_names_of_a_checks_variables_are_no_address_of_redis(tmp_path: Path) -> None:
    names = "REDIS_HOST", "REDIS_PORT", "REDIS_SSL_CHECK_HOSTNAME"
    code = "".join(f"os.environ.get('{name}')\n" for name in names)
    files = {"main.py": f"{MAIN}import os\n{code}", "requirements.txt": "redis==5\n"}
    assert lines_of(tmp_path, files)["services"] == {"redis": {"host": "REDIS_HOST", "port": "REDIS_PORT"}}


def test_requirements_that_powershell_has_written_are_read(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "requirements.txt").write_bytes("mysqlclient==2.1.1\r\n".encode("utf-16"))
    assert "default-libmysqlclient-dev" in lines_of(tmp_path, {})["packages"]


def test_the_example_address_of_alembic_is_no_address(tmp_path: Path) -> None:
    files = {
        "main.py": MAIN,
        "alembic.ini": "[alembic]\nscript_location = m\nsqlalchemy.url = driver://user:pass@localhost/dbname\n",
        "m/env.py": "run()\n",
        "m/versions/a.py": "revision = 'a'\ndown_revision = None\n",
        "m/versions/b.py": "revision = 'b'\ndown_revision = None\n",
        "m/versions/c.py": "revision = 'c'\ndown_revision: tuple = (\n    'a',\n    'b',\n)\n",
    }
    assert not [text for text in proposed(tmp_path, files).warnings if "address" in text or "heads" in text]


LOCK = """
[[package]]
name = "shop"
source = {{ virtual = "." }}
dependencies = [{{ name = "dkimpy" }}, {{ name = "idna" }}]
[[package]]
name = "dkimpy"
version = "1.1.8"
sdist = {{ url = "https://files.example.com/dkimpy-1.1.8.tar.gz", hash = "sha256:0" }}
[[package]]
name = "idna"
version = "3.7"
wheels = [{{ url = "https://files.example.com/idna-3.7-{}.whl", hash = "sha256:0" }}]
"""
PROJECT = '[project]\nname = "shop"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["dkimpy", "idna"]\n'


def test_what_has_no_wheel_is_built(tmp_path: Path) -> None:
    files = {"main.py": MAIN, "uv.lock": LOCK.format("py3-none-any"), "pyproject.toml": PROJECT}
    lines = lines_of(tmp_path, files)
    assert (lines["build_packages"], lines["allow_unpinned"]) == (["dkimpy"], True)
    lines = lines_of(tmp_path, {**files, "uv.lock": LOCK.format("cp312-cp312-manylinux_2_17_x86_64")})
    assert (lines["build_packages"], lines["python"]) == (["dkimpy"], "3.12")
    lines = lines_of(tmp_path / "2", {"main.py": MAIN, "requirements.txt": "psycopg2==2.9\n"})
    assert (lines["build_packages"], lines["packages"]) == (["psycopg2"], ["libpq-dev", "gcc", "python3-dev"])


def test_an_entry_that_gets_long_says_no_more_than_it_has_to(tmp_path: Path) -> None:
    files = {
        "api/shop/web.py": f"{MAIN}{CONFIG}import os\nkey = os.environ['SECRET_KEY']\nos.makedirs('logs')\n"
        "meta.create_all(e)\nos.environ['REDIS_URL']\nos.environ['ENVIRONMENT']\n",
        "api/shop/__init__.py": "",
        "api/uv.lock": LOCK.format("py3-none-any"),
        "api/pyproject.toml": PROJECT,
        "api/Dockerfile": "FROM python:3.12\nRUN apt-get install -y ffmpeg\n",
        "docker-compose.yml": "services: {db: {image: 'postgres:17'}, redis: {image: 'redis:7'}}",
        "Procfile": "web: uvicorn --app-dir api shop.web:app\njobs: arq shop.W",
    }
    lines = lines_of(tmp_path, files)
    assert "python" not in lines  # the host's will do
    assert "environment_variable" not in lines
    assert lines["env"]["ENVIRONMENT"] == "production"


@pytest.mark.parametrize(
    ("requirement", "version"),
    [("idna", "3.10"), ("fastapi==0.63.0", "3.9"), ("fastapi==0.115.2", "3.10")],
)
def test_python_is_of_the_time_of_what_is_installed(tmp_path: Path, requirement: str, version: str) -> None:
    """Of packages that nothing pins there are those of when the file was last changed, however long commits go on."""
    tree(tmp_path, {"main.py": MAIN, "requirements.txt": f"{requirement}\n"})
    for year, name in ((2022, "requirements.txt"), (2026, "main.py")):
        date = f"{year}-06-01T00:00:00Z"
        for words in (
            ("init", "-q"),
            ("add", name),
            ("-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "x"),
        ):
            environment = {**os.environ, "GIT_COMMITTER_DATE": date, "GIT_AUTHOR_DATE": date}
            subprocess.run(["git", "-C", str(tmp_path), *words], check=True, env=environment)
    assert proposed(tmp_path, {}, 2026).lines["python"] == version


def test_an_address_that_only_the_compose_file_names_is_read(tmp_path: Path) -> None:
    """As by Dynaconf, whose names are not in the code."""
    compose = """
services:
  api: {build: ., environment: {SHOP_DB__uri: "postgresql://x:y@db/shop"}}
  db: {image: "postgres:17"}
  redis: {image: "redis:7"}
  jobs: {build: ., command: "rq worker --url redis://redis:6379"}
"""
    files = {"main.py": MAIN, "docker-compose.yml": compose, "requirements.txt": "psycopg2-binary==2.9\n"}
    proposal = proposed(tmp_path, files)
    assert proposal.lines["database"] == {"url": "SHOP_DB__uri", "scheme": "postgresql"}
    assert [text for text in proposal.warnings if "the address of redis, a host that is not here" in text]


def test_the_one_python_that_a_project_allows_is_named_in_full(tmp_path: Path) -> None:
    project = '[tool.poetry]\nname = "shop"\n[tool.poetry.dependencies]\npython = "3.11.3"\n'
    files = {"main.py": MAIN, "pyproject.toml": project, "poetry.lock": "", "Dockerfile": "FROM python:3.11.6\n"}
    assert lines_of(tmp_path, files)["python"] == "3.11.3"


def test_what_only_a_server_would_read_is_given_where_settings_want_it(tmp_path: Path) -> None:
    code = f"{MAIN}class Settings(BaseSettings):\n    host: str\n    port: int\n"
    assert lines_of(tmp_path, {"main.py": code})["env"] == {"HOST": "127.0.0.1", "PORT": "8000"}


def test_what_connects_by_asyncpg_alone_has_a_password_and_a_port(tmp_path: Path) -> None:
    code = f"{MAIN}import os\nu = os.environ['DATABASE_URL']\n"
    files = {"main.py": code, "requirements.txt": "databases==0.6\nasyncpg==0.27\n"}
    assert lines_of(tmp_path, files)["database"]["tcp"] is True
