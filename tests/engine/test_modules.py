"""Which application of a release is served."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from slipway.base.errors import FailedError
from slipway.release import modules, server

APP = "from fastapi import FastAPI\napp = FastAPI()\n"
FACTORY = "from fastapi import FastAPI\ndef create_app() -> FastAPI:\n    return FastAPI()\n"


def written(release: Path, sources: Mapping[str, str]) -> None:
    for name, text in sources.items():
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).write_text(text)


def find(release: Path, directory: str = "", declared: Mapping[str, Any] | None = None) -> str:
    return modules.find(release, directory, declared or {}, "Commit abc", "shop")


@pytest.mark.parametrize(
    ("sources", "found"),
    [
        ({"main.py": APP}, "main:app"),
        ({"main.py": APP.replace("app =", "api =")}, "main:api"),
        ({"main.py": APP.replace("app =", "shop =")}, "main:shop"),
        ({"main.py": APP + "api = FastAPI()\n"}, "main:app"),
        ({"main.py": "import fastapi\nserver: fastapi.FastAPI = fastapi.FastAPI()\n"}, "main:server"),
        ({"app/main.py": APP, "app/__init__.py": ""}, "app.main:app"),
        ({"app/main.py": APP}, "app.main:app"),
        ({"app/main.py": APP + "import db\n", "app/db.py": ""}, "main:app"),
        ({"app/main.py": APP + "from app import db\n", "app/db.py": ""}, "app.main:app"),
        ({"api.py": APP, "app/main.py": APP}, "api:app"),
        ({"main.py": "import uvicorn\nuvicorn.run('app.main:app')\n", "app/main.py": APP}, "app.main:app"),
        ({"main.py": "import typer\napp = typer.Typer()\n", "app/main.py": APP}, "app.main:app"),
        (
            {"main.py": "from shop import create_app\ntry:\n    app = create_app()\nexcept OSError:\n    raise\n"},
            "main:app",
        ),
        ({"main.py": "from shop.web import app\n", "shop/web.py": APP}, "main:app"),
        ({"main.py": "from shop import api\n", "shop/api/__init__.py": "", "shop/web.py": APP}, "shop.web:app"),
        ({"main.py": "from starlette.applications import Starlette\napp = Starlette()\n"}, "main:app"),
        ({"src/main.py": APP}, "main:app"),
        ({"src/main.py": APP + "from src.db import x\n"}, "src.main:app"),
        ({"src/main.py": APP, "src/__init__.py": ""}, "src.main:app"),
        ({"src/shop/web.py": APP, "src/shop/__init__.py": ""}, "shop.web:app"),
        ({"server.py": APP, "tests/fake.py": APP, "test_app.py": APP}, "server:app"),
        ({"main.py": FACTORY}, "main:create_app"),
        ({"shop/server.py": FACTORY, "shop/__init__.py": ""}, "shop.server:create_app"),
        ({"server.py": FACTORY, "admin.py": FACTORY}, ""),
        ({"app/__init__.py": f"{FACTORY}app = create_app()\n", "run.py": "import uvicorn\n"}, "app:app"),
        ({"asgi.py": f"{FACTORY}application = create_app()\n"}, "asgi:application"),
        ({"main.py": "class Shop(FastAPI): ...\n" + APP.replace("app = FastAPI()", "")}, ""),
    ],
)
def test_an_app_is_found_where_the_command_fastapi_finds_it_and_where_there_is_one(
    tmp_path: Path, sources: dict[str, str], found: str
) -> None:
    written(tmp_path, sources)
    if found:
        assert find(tmp_path) == found
    else:
        with pytest.raises(FailedError, match=r"Set apps\.shop\.module"):
            find(tmp_path)


def test_it_is_looked_for_in_the_apps_directory(tmp_path: Path) -> None:
    written(tmp_path, {"main.py": APP, "backend/app/main.py": APP, "backend/app/__init__.py": ""})
    assert find(tmp_path, "backend") == "app.main:app"


def test_an_entrypoint_of_the_project_comes_first_and_has_to_be_there(tmp_path: Path) -> None:
    written(tmp_path, {"main.py": APP, "web.py": APP})
    assert find(tmp_path, declared={"tool": {"fastapi": {"entrypoint": "web:app"}}}) == "web:app"
    with pytest.raises(FailedError, match=r"absent\.py.*There is main:app, web:app"):
        find(tmp_path, declared={"tool": {"fastapi": {"entrypoint": "absent:app"}}})


def test_of_several_none_is_taken_and_all_are_named(tmp_path: Path) -> None:
    written(tmp_path, {"one.py": APP, "two.py": APP})
    with pytest.raises(FailedError, match=r"several applications \(one:app, two:app\)\. Set apps\.shop\.module"):
        find(tmp_path)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("app.main:app", ""),
        ("app.main:create_app()", ""),
        ("packages.there:anything", ""),
        ("member:app", ""),
        ("app.mian:app", "has no app/mian.py in its top directory. There is app.main:app"),
        ("app.main:ap", "app.main of Commit abc has no ap. It has app, create_app."),
    ],
)
def test_a_module_that_is_set_has_to_be_in_the_source_or_in_the_packages(
    tmp_path: Path, module: str, said: str
) -> None:
    written(
        tmp_path,
        {
            "app/main.py": APP + FACTORY,
            "members/member/src/member.py": APP,
            ".venv/lib/python3.13/site-packages/packages/there.py": "from x import *\n",
        },
    )
    found = modules.fault(tmp_path, "", module, "Commit abc", "apps.shop.module")
    assert said in found if said else not found


@pytest.mark.parametrize("text", ["def (", "\0", "app = " + "(" * 5000, "x" * (2**20 + 1)])
def test_a_file_that_cannot_be_read_is_no_app_and_no_crash(tmp_path: Path, text: str) -> None:
    written(tmp_path, {"main.py": text})
    with pytest.raises(FailedError, match="no FastAPI application"):
        find(tmp_path)


@pytest.mark.parametrize(
    ("packages", "python", "said"),
    [
        ([], "3.13.5", ""),
        (["uvicorn-0.12.0", "gunicorn-20.0.4"], "3.8.10", ""),
        (["uvicorn-0.11.8"], "3.13.5", "uvicorn 0.11.8, and Slipway serves apps with uvicorn 0.12 or later"),
        (["gunicorn-19.9.0", "uvicorn-0.40.0"], "3.13.5", "gunicorn 19.9.0"),
        (["uvicorn_worker-0.4.0"], "3.8.10", "needs Python 3.9"),
    ],
)
def test_a_release_that_cannot_be_served_says_why(tmp_path: Path, packages: list[str], python: str, said: str) -> None:
    for name in packages:
        (tmp_path / f".venv/lib/python3.13/site-packages/{name}.dist-info").mkdir(parents=True)
    found = server.problem(tmp_path, python)
    assert said in found if said else not found
