"""The page as HTML, without a browser: who can see it, and what it contains."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from time import time
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from app.main import create_app
from app.routers.page import HEADERS
from app.schemas.token import Scope

from .conftest import client_of, make_settings, make_token

COOKIE = "__Host-logbook"
DEPLOYMENT = {
    "service": "billing",
    "environment": "prod",
    "host": "app1",
    "version": "v1.4.0",
    "commit": "5f2c1d9a7b3e",
    "actor": "alice@workstation",
}


@pytest.fixture
async def token(app: FastAPI) -> str:
    return await make_token(app, Scope.READ, "me")


@pytest.fixture
async def visitor(anonymous: httpx.AsyncClient, token: str) -> httpx.AsyncClient:
    """A client that has signed in."""
    assert (await _sign_in(anonymous, token)).status_code == 303
    return anonymous


@pytest.fixture
async def service(client: httpx.AsyncClient) -> None:
    """A service exists."""
    await client.post("/api/v1/services", json={"name": "billing", "repository_url": "https://git.example.com/b"})


async def _sign_in(client: httpx.AsyncClient, token: str, **fields: str) -> httpx.Response:
    return await client.post("/sign-in", data={"token": token, **fields})


async def _deploy(client: httpx.AsyncClient, status: str = "succeeded", **values: Any) -> None:
    recorded = await client.post("/api/v1/deployments", json=DEPLOYMENT | values)
    assert recorded.status_code == 201, recorded.text
    ending = {"status": status, "detail": values.get("detail", "")}
    assert (await client.post(f"/api/v1/deployments/{recorded.json()['id']}/finish", json=ending)).is_success


# Signing in and out


async def test_signing_in_redirects_to_the_wanted_page(anonymous: httpx.AsyncClient, token: str) -> None:
    asked = await anonymous.get("/?service=billing&days=7")
    assert asked.status_code == 303
    form = await anonymous.get(asked.headers["location"])
    assert form.status_code == 200
    wanted = unquote(re.findall(r'name="next" value="([^"]*)"', form.text)[0]).replace("&amp;", "&")
    entered = await _sign_in(anonymous, token, next=wanted)
    assert (entered.status_code, entered.headers["location"]) == (303, "/?service=billing&days=7")
    assert (await anonymous.get(entered.headers["location"])).status_code == 200
    assert (await anonymous.get("/sign-in?next=/?days=90")).headers["location"] == "/?days=90"


async def test_the_cookie_is_for_this_host_only_and_without_the_token(anonymous: httpx.AsyncClient, token: str) -> None:
    entered = await _sign_in(anonymous, token)
    cookie = entered.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert set(cookie.lower().split("; ")[1:]) == {"httponly", "secure", "samesite=lax", "path=/", "max-age=2592000"}
    for part in token.split("_", 2)[1:]:
        assert part not in cookie
        assert part not in entered.headers["location"]


async def test_without_tls_the_cookie_is_not_secure(app: FastAPI, token: str) -> None:
    async with client_of(app) as client:
        client.base_url = "http://logbook.test"
        cookie = (await _sign_in(client, token)).headers["set-cookie"]
        assert cookie.startswith("logbook=")
        assert "secure" not in cookie.lower()
        assert (await client.get("/")).status_code == 200


async def test_signing_out_ends_the_visit(visitor: httpx.AsyncClient) -> None:
    assert (await visitor.get("/")).status_code == 200
    assert (await visitor.post("/sign-out")).headers["location"] == "/sign-in"
    assert (await visitor.get("/")).status_code == 303


async def test_revoking_a_token_ends_its_visits_at_once(visitor: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    tokens = (await client.get("/api/v1/tokens")).json()["items"]
    number = next(token["id"] for token in tokens if token["name"] == "me")
    assert (await client.delete(f"/api/v1/tokens/{number}")).is_success
    assert (await visitor.get("/")).status_code == 303


async def test_an_invalid_cookie_is_refused(visitor: httpx.AsyncClient) -> None:
    genuine = visitor.cookies[COOKIE]
    payload, rest = genuine.split(".", 1)
    for forged in ("", "1", "MQ", f"Mg.{rest}", f"{payload}.{rest[::-1]}", f"{genuine}x", "é"):
        visitor.cookies.clear()
        answer = await visitor.get("/", headers=[(b"Cookie", f"{COOKIE}={forged}".encode())])
        assert answer.status_code == 303, forged
    assert (await visitor.get("/", headers={"Cookie": f"{COOKIE}={genuine}"})).status_code == 200


async def test_after_a_rotation_of_the_key_visits_go_on(app: FastAPI, visitor: httpx.AsyncClient, token: str) -> None:
    settings = app.state.settings
    old, settings.secret_key = settings.secret_key, SecretStr("new-key-of-the-tests-0123456789-0123456789")
    assert (await visitor.get("/")).status_code == 303, "a key that is not known any more"
    settings.secret_key_previous = old
    assert (await visitor.get("/")).status_code == 200
    # What is signed now needs the new key alone.
    visitor.cookies.clear()
    await _sign_in(visitor, token)
    settings.secret_key_previous = SecretStr("")
    assert (await visitor.get("/")).status_code == 200


async def test_a_cookie_signed_with_another_key_is_refused(app: FastAPI, visitor: httpx.AsyncClient) -> None:
    app.state.settings = make_settings(app.state.settings.database_url)  # with a random secret of its own
    assert (await visitor.get("/")).status_code == 303


async def test_a_visit_ends_after_thirty_days(visitor: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    days = 29
    monkeypatch.setattr("itsdangerous.timed.time", SimpleNamespace(time=lambda: time() + days * 86400))
    assert (await visitor.get("/")).status_code == 200
    days = 31
    assert (await visitor.get("/")).status_code == 303


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example", "//evil.example", "/\\evil.example", "/docs", "javascript:alert(1)", "\t//e"]
)
async def test_signing_in_never_redirects_to_another_site(
    anonymous: httpx.AsyncClient, token: str, elsewhere: str
) -> None:
    assert 'name="next" value="/"' in (await anonymous.get("/sign-in", params={"next": elsewhere})).text
    assert (await _sign_in(anonymous, token, next=elsewhere)).headers["location"] == "/"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "https://other.logbook.test"},
    ],
)
async def test_forms_of_other_sites_are_refused(
    visitor: httpx.AsyncClient, token: str, headers: dict[str, str]
) -> None:
    for path in ("/sign-out", "/sign-in"):
        refused = await visitor.post(path, data={"token": token}, headers=headers)
        assert (refused.status_code, "set-cookie" in refused.headers) == (403, False)
        assert refused.headers["content-type"].startswith("text/html")
    ours = {"Origin": "https://logbook.test", "Sec-Fetch-Site": "same-origin"}
    assert (await visitor.post("/sign-out", headers=ours)).status_code == 303


async def test_a_wrong_token_is_refused_and_not_shown_again(anonymous: httpx.AsyncClient, token: str) -> None:
    wrong = token[:-4] + "0000"
    refused = await _sign_in(anonymous, wrong, next="/?days=7")
    assert refused.status_code == 401
    assert 'role="alert"' in refused.text
    assert 'value="/?days=7"' in refused.text
    assert wrong not in refused.text
    assert "set-cookie" not in refused.headers


async def test_signing_in_is_limited_to_ten_attempts_per_minute(app: FastAPI, token: str) -> None:
    async with client_of(app) as client:
        for _ in range(9):
            assert (await _sign_in(client, "lb_wrong")).status_code == 401
        assert (await _sign_in(client, token)).status_code == 303, "a success starts the count anew"
        for _ in range(10):
            assert (await _sign_in(client, "lb_wrong")).status_code == 401
        refused = await _sign_in(client, token)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert 'role="alert"' in refused.text
    other = httpx.ASGITransport(app, client=("192.0.2.7", 1))
    async with httpx.AsyncClient(transport=other, base_url="https://logbook.test") as elsewhere:
        assert (await _sign_in(elsewhere, token)).status_code == 303


async def test_a_public_page_needs_no_signing_in(app: FastAPI, anonymous: httpx.AsyncClient) -> None:
    app.state.settings = app.state.settings.model_copy(update={"public_page": True})
    shown = await anonymous.get("/")
    assert shown.status_code == 200
    assert "Sign out" not in shown.text
    assert (await anonymous.get("/sign-in")).headers["location"] == "/"


# What is shown


@pytest.mark.usefixtures("service")
async def test_filters_select_deployments(visitor: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    await client.post("/api/v1/services", json={"name": "shop", "repository_url": "https://git.example.com/s"})
    await _deploy(client, version="v1-billing-prod")
    await _deploy(client, version="v2-billing-staging", environment="staging")
    await _deploy(client, version="v3-shop-prod", service="shop")
    await _deploy(client, version="v4-shop-failed", service="shop", status="failed")

    async def shown(query: str) -> set[str]:
        return {name[:2] for name in re.findall(r"v\d-[a-z-]+", (await visitor.get(f"/{query}")).text)}

    assert await shown("") == {"v1", "v2", "v3", "v4"}
    assert await shown("?service=shop") == {"v3", "v4"}
    assert await shown("?environment=prod") == {"v1", "v3", "v4"}
    assert await shown("?service=shop&environment=staging") == set()
    page = (await visitor.get("/?status=failed")).text
    assert "v4-shop-failed" in page
    assert page.index("v1-billing-prod") < page.index('id="timeline"'), "what is live stays"
    assert "v1-billing-prod" not in page[page.index('id="timeline"') :]


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    "query",
    [
        "days=abc",
        "days=8",
        "days=%D9%A7",
        "before=x",
        "before=1-1-1",
        "status=gone",
        "service=<b>",
        "environment=%00",
        "days=",
    ],
)
async def test_invalid_parameters_in_the_url_are_ignored(
    visitor: httpx.AsyncClient, client: httpx.AsyncClient, query: str
) -> None:
    await _deploy(client)
    shown = await visitor.get(f"/?{query}")
    assert shown.status_code == 200
    assert "v1.4.0" in shown.text
    assert ('class="note"' in shown.text) == (query != "days=")
    assert "<b>" not in shown.text.replace("<b>billing</b>", "")


@pytest.mark.usefixtures("service")
async def test_an_unknown_name_is_shown_as_chosen_without_results(
    visitor: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    await _deploy(client)
    shown = (await visitor.get("/?service=unheard-of")).text
    assert "<option selected>unheard-of</option>" in shown
    assert "No deployments match the filters" in shown


@pytest.mark.usefixtures("service")
async def test_older_deployments_are_on_the_next_pages(visitor: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    for number in range(30):
        began = f"2026-11-{1 + number // 10:02}T10:00:00Z"  # several at the same time
        await _deploy(client, status="failed", version=f"v{number}", started_at=began)
    first = (await visitor.get("/?status=failed")).text
    older = re.findall(r'href="(/\?[^"]*before=[^"]*)"', first)[0].replace("&amp;", "&")
    second = (await visitor.get(older)).text
    pages = [set(re.findall(r'"version">(v\d+)<', page)) for page in (first, second)]
    assert [len(page) for page in pages] == [25, 5]
    assert not pages[0] & pages[1]
    assert "Newest" in second
    assert "Older" not in second


@pytest.mark.usefixtures("service")
async def test_recorded_text_is_escaped(visitor: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    hostile = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"
    await _deploy(client, actor=hostile, version='"><svg/onload=alert(1)>', detail=hostile + "{{ 7*7 }}")
    shown = (await visitor.get("/")).text
    assert "<script>" not in shown
    assert "<svg/" not in shown
    assert "<img src=x" not in shown
    assert "&lt;script&gt;alert(1)" in shown
    assert "{{ 7*7 }}" in shown


async def test_the_empty_page_shows_how_to_record_a_deployment(visitor: httpx.AsyncClient) -> None:
    shown = (await visitor.get("/")).text
    for said in (
        "python -m app.tokens create",
        "https://logbook.test/api/v1/deployments",
        "LOGBOOK_TOKEN",
        "logbook_url",
    ):
        assert said in shown


# Headers and errors


@pytest.mark.usefixtures("service")
async def test_every_page_complies_with_its_content_security_policy(
    visitor: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    await _deploy(client)
    answers = [
        await visitor.get("/"),
        await visitor.head("/"),
        await _stranger(visitor).get("/"),
        await _stranger(visitor).get("/sign-in"),
        await visitor.post("/sign-in", data={"token": "x"}),
        await visitor.post("/sign-in", headers={"Origin": "null"}),
        await visitor.post("/sign-in", files={"token": b"a file"}),
        await visitor.post("/sign-in", content=b"--", headers={"Content-Type": "multipart/form-data"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 303, 200, 401, 403, 422, 400]
    for answer in answers:
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert not re.search(r"style=|<style|\son\w+=|<script(?! src=)|https?://(?!git\.)", answer.text)
        if answer.text:
            assert answer.headers["content-type"].startswith("text/html")
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def _stranger(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A second client, which has not signed in."""
    return httpx.AsyncClient(transport=client._transport, base_url=client.base_url)


async def test_static_files_with_their_digest_are_cached_for_good(anonymous: httpx.AsyncClient) -> None:
    page = (await anonymous.get("/sign-in")).text
    addresses = set(re.findall(r'"(/static/[^"]+)"', page))
    assert len(addresses) == 2
    for address in addresses:
        file = await anonymous.get(address)
        assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert file.headers["x-content-type-options"] == "nosniff"
        same = await anonymous.get(address, headers={"If-None-Match": file.headers["etag"]})
        assert (same.status_code, same.headers["cache-control"]) == (304, file.headers["cache-control"])
        for other in (address.split("?")[0], f"{address}0"):
            assert (await anonymous.get(other)).headers["cache-control"] == "no-cache"
    assert (await anonymous.get("/static/../main.py")).status_code == 404


async def test_the_page_is_not_in_the_openapi_document(anonymous: httpx.AsyncClient) -> None:
    paths = (await anonymous.get("/openapi.json")).json()["paths"]
    assert not [path for path in paths if not path.startswith(("/api/v1/", "/health/", "/problems"))]


@pytest.fixture
async def orphan(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """An app whose database does not exist."""
    app = create_app(make_settings(f"postgresql+asyncpg://logbook@/logbook?host={tmp_path}", public_page=True))
    async with app.router.lifespan_context(app), client_of(app) as client:
        yield client


async def test_the_page_shows_that_the_database_does_not_answer(orphan: httpx.AsyncClient) -> None:
    answer = await orphan.get("/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "The database does not answer" in answer.text
    assert answer.headers["content-type"].startswith("text/html")
