"""The page in a real browser: also with the keyboard only, without JavaScript, and on a phone."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it ships no types
from fastapi import FastAPI
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from app.main import create_app
from app.settings import Settings
from hosts import chromium

from .conftest import make_settings, make_token

LONG_HOST = ".".join(["a-host-with-a-long-name"] * 10)
REFRESH = 15_000  # milliseconds, as page.js has them

expect.set_options(timeout=20_000)  # milliseconds; other tests run beside these


@dataclass
class Site:
    """The served app, and a token that is allowed to do everything."""

    address: str
    token: str
    api: httpx.Client

    def deploy(self, version: str, status: str | None = "succeeded", **values: Any) -> int:
        """Record a deployment, and its end unless that is None; its id."""
        known = {
            "service": "billing",
            "environment": "prod",
            "host": "app1",
            "commit": "5f2c1d9a7b3e",
            "actor": "alice",
        }
        recorded = self.api.post("/api/v1/deployments", json={"version": version, **known, **values})
        assert recorded.status_code == 201, recorded.text
        number: int = recorded.json()["id"]
        if status:
            ending = {"status": status, "phases": {"stage": 4.5, "warm": 1.5}, "detail": "0 of 412 requests failed."}
            if began := values.get("started_at"):
                ending["finished_at"] = (datetime.fromisoformat(began) + timedelta(seconds=12)).isoformat()
            self.api.post(f"/api/v1/deployments/{number}/finish", json=ending).raise_for_status()
        return number

    def fill(self) -> None:
        """Record some weeks of three services, with long texts, a running deployment and failures."""
        for name in ("billing", "logbook", "a-service-whose-name-is-much-longer-than-anybody-would-like-to-read-it"):
            self.api.post("/api/v1/services", json={"name": name, "repository_url": "https://git.example.com/x"})
            for number, status in enumerate(("succeeded", "failed", "succeeded", "rolled_back", "succeeded")):
                began = (datetime.now(UTC) - timedelta(days=20 - 4 * number)).isoformat()
                self.deploy(f"v1.{number}.0", status, service=name, started_at=began)
        self.deploy("v1.3.0", kind="rollback", environment="staging", host=LONG_HOST, actor="a" * 200)
        self.deploy("v" * 100, environment="staging", host="app2", commit="c" * 64)
        self.deploy("v1.6.0", None)


@contextmanager
def _served(app: FastAPI) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


async def _first_token(settings: Settings) -> str:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        return await make_token(app)


@pytest.fixture
def site(migrated_sqlite: Path, tmp_path: Path) -> Iterator[Site]:
    settings = make_settings(f"sqlite+aiosqlite:///{shutil.copy(migrated_sqlite, tmp_path)}")
    with ThreadPoolExecutor() as elsewhere:  # Playwright's loop runs in this thread
        token = elsewhere.submit(asyncio.run, _first_token(settings)).result()
    headers = {"Authorization": f"Bearer {token}"}
    with _served(create_app(settings)) as address, httpx.Client(base_url=address, headers=headers) as api:
        yield Site(address, token, api)


@pytest.fixture
def busy_site(site: Site) -> Site:
    site.fill()
    return site


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = chromium.program()
    if program is None:
        pytest.fail("The tests of the page want Chromium: apt-get install chromium (or run `make app`).")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # which root may not have
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=arguments)
        yield launched
        launched.close()


@dataclass
class Window:
    """A window of the browser. Its errors are collected and checked at the end of the test."""

    context: BrowserContext
    page: Page
    wrong: list[str] = field(default_factory=list)

    def watch(self, address: str) -> None:
        def note_message(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                self.wrong.append(f"{message.type}: {message.text}")

        def note_address(asked: str) -> None:
            if not asked.startswith((f"{address}/", "data:")):
                self.wrong.append(f"asked for {asked}")

        self.page.on("console", note_message)
        self.page.on("pageerror", lambda error: self.wrong.append(f"uncaught: {error}"))
        self.page.on("request", lambda request: note_address(request.url))


@contextmanager
def _window(browser: Browser, site: Site, *, signed_in: bool = True, **options: Any) -> Iterator[Page]:
    context = browser.new_context(base_url=site.address, reduced_motion="reduce", **options)
    context.set_default_timeout(10_000)
    window = Window(context, context.new_page())
    window.watch(site.address)
    if signed_in:
        _sign_in(window.page, site)
    yield window.page
    context.close()
    assert window.wrong == []


def _sign_in(page: Page, site: Site) -> None:
    page.goto("/")
    page.get_by_label("Token").fill(site.token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def _timeline(page: Page) -> Any:
    return page.locator(".timeline summary .version")


def test_a_token_is_entered_once(browser: Browser, busy_site: Site) -> None:
    with _window(browser, busy_site, signed_in=False) as page:
        page.goto("/?service=logbook")
        page.get_by_label("Token").fill(busy_site.token)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_label("Service")).to_have_value("logbook")
        assert page.url == f"{busy_site.address}/?service=logbook"
        page.reload()
        expect(page.get_by_role("heading", name="Timeline")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Token")).to_be_focused()
        page.goto("/")
        expect(page.get_by_label("Token")).to_be_visible()


def test_choosing_a_filter_applies_at_once_and_changes_the_url(browser: Browser, busy_site: Site) -> None:
    with _window(browser, busy_site) as page:
        everything = _timeline(page).count()
        page.get_by_label("Service").focus()
        page.get_by_label("Service").select_option("logbook")
        expect(_timeline(page)).to_have_count(5)
        assert page.url == f"{busy_site.address}/?service=logbook"
        expect(page).to_have_title("logbook · Logbook")
        expect(page.get_by_label("Service")).to_be_focused()
        page.get_by_role("link", name="Failed").click()
        expect(_timeline(page)).to_have_text(["v1.1.0"])
        page.get_by_role("link", name="7 days").click()
        expect(page.get_by_text("1 in 7 days")).to_be_visible()
        expect(page.get_by_role("link", name="Failed")).to_have_attribute("aria-current", "true")
        page.goto("/")
        page.get_by_label("Environment").select_option("staging")
        expect(_timeline(page)).to_have_count(2)
        page.go_back()
        expect(_timeline(page)).to_have_count(everything)


def test_the_description_of_the_api_works_within_its_content_security_policy(browser: Browser, site: Site) -> None:
    """The browser would report what the policy forbids as an error."""
    policy = httpx.get(f"{site.address}/docs").headers["content-security-policy"]
    assert policy.count("'sha256-") == 1
    assert "unsafe" not in policy
    with _window(browser, site, signed_in=False) as page:
        page.goto("/docs")
        page.locator(".opblock").filter(has_text="/health/ready").first.click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        expect(page.locator(".live-responses-table .response .response-col_status").first).to_contain_text("200")


def test_without_javascript_filters_have_a_button(browser: Browser, busy_site: Site) -> None:
    with _window(browser, busy_site, java_script_enabled=False) as page:
        page.get_by_label("Service").select_option("logbook")
        page.get_by_role("button", name="Filter").click()
        expect(_timeline(page)).to_have_count(5)
        page.locator(".timeline summary").first.click()
        expect(page.get_by_text("0 of 412 requests failed.").first).to_be_visible()


def test_a_new_deployment_appears_without_a_reload(browser: Browser, busy_site: Site) -> None:
    with _window(browser, busy_site) as page:
        page.clock.install()
        page.reload()
        page.evaluate("window.same = true")
        number = busy_site.deploy("v2.0.0", None)
        page.clock.fast_forward(REFRESH)
        expect(_timeline(page).first).to_have_text("v2.0.0")
        expect(page.locator(f"#deployment-{number}").get_by_text("Running")).to_be_visible()
        busy_site.api.post(f"/api/v1/deployments/{number}/finish", json={"status": "succeeded"}).raise_for_status()
        page.clock.fast_forward(REFRESH)
        expect(page.locator(f"#deployment-{number}").get_by_text("Succeeded")).to_be_visible()
        expect(page.locator(".live").get_by_text("v2.0.0")).to_be_visible()
        assert page.evaluate("window.same"), "the page was loaded anew"


def test_the_first_deployment_adds_the_filters(browser: Browser, site: Site) -> None:
    with _window(browser, site) as page:
        page.clock.install()
        page.reload()
        expect(page.get_by_label("Service")).to_have_count(0)
        site.fill()
        page.clock.fast_forward(REFRESH)
        page.get_by_label("Service").select_option("logbook")
        expect(_timeline(page)).to_have_count(5)


def test_opened_details_are_not_refreshed_until_the_visitor_asks(browser: Browser, busy_site: Site) -> None:
    with _window(browser, busy_site) as page:
        page.clock.install()
        page.reload()
        opened = page.locator(".timeline details").nth(1)
        opened.locator("summary").click()
        for version in ("v2.0.0", "v2.1.0"):
            busy_site.deploy(version)
            with page.expect_response("**/"):
                page.clock.fast_forward(REFRESH)
        expect(opened).to_have_attribute("open", "")
        page.get_by_role("button", name="Show what is new").click()
        expect(_timeline(page).nth(0)).to_have_text("v2.1.0")
        expect(page.get_by_role("button", name="Show what is new")).to_have_count(0)


def test_revoking_the_token_closes_the_open_page(browser: Browser, busy_site: Site) -> None:
    with _window(browser, busy_site) as page:
        page.clock.install()
        page.reload()
        number = busy_site.api.get("/api/v1/tokens").json()["items"][0]["id"]
        busy_site.api.delete(f"/api/v1/tokens/{number}").raise_for_status()
        page.clock.fast_forward(REFRESH)
        expect(page.get_by_label("Token")).to_be_visible()


def test_the_page_works_with_the_keyboard(browser: Browser, busy_site: Site) -> None:
    with _window(browser, busy_site, signed_in=False) as page:
        page.goto("/")
        expect(page.get_by_label("Token")).to_be_focused()
        page.keyboard.type(busy_site.token)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Timeline")).to_be_visible()
        page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to the content")
        expect(skip).to_be_focused()
        expect(skip).to_be_in_viewport()
        page.keyboard.press("Enter")
        for _ in range(60):
            page.keyboard.press("Tab")
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "no visible focus"
            if page.evaluate("document.activeElement.closest('.timeline') !== null"):
                break
        page.keyboard.press("Enter")
        first = page.locator(".timeline details").first
        expect(first).to_have_attribute("open", "")
        page.keyboard.press("Space")
        expect(first).not_to_have_attribute("open", "")


@pytest.mark.parametrize("width", [320, 360, 700, 1000])
def test_nothing_is_wider_than_the_screen(browser: Browser, site: Site, width: int) -> None:
    def overhang(page: Page) -> int:
        found: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return found

    with _window(browser, site, viewport={"width": width, "height": 700}, signed_in=False) as page:
        page.goto("/")
        assert overhang(page) <= 0, "signing in"
        _sign_in(page, site)
        assert overhang(page) <= 0, "without deployments"
        site.fill()
        page.reload()
        page.locator("details").evaluate_all("all => all.forEach(each => { each.open = true })")
        assert overhang(page) <= 0, "with everything open"
        cut = page.locator("main *").evaluate_all(
            "all => all.filter(each => each.getBoundingClientRect().right > innerWidth + 1 && !each.closest('svg'))"
            ".map(each => each.outerHTML.slice(0, 100))"
        )
        assert cut == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_accessibility_problems(browser: Browser, site: Site, scheme: str) -> None:
    def violations(page: Page) -> list[str]:
        found = Axe().run(page).response["violations"]
        return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found]

    # Axe has to be brought into the page, which its policy forbids; that no other test does without the policy.
    with _window(browser, site, color_scheme=scheme, bypass_csp=True, signed_in=False) as page:
        page.goto("/")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(int(part) for part in ground[4:-1].split(",")) < 380) == (scheme == "dark")
        assert violations(page) == [], "signing in"
        _sign_in(page, site)
        assert violations(page) == [], "without deployments"
        site.fill()
        page.reload()
        assert violations(page) == [], "with deployments"
        page.locator("details").evaluate_all("all => all.forEach(each => { each.open = true })")
        assert violations(page) == [], "with everything open"
        page.set_viewport_size({"width": 360, "height": 700})
        assert violations(page) == [], "on a phone"


def test_the_commands_on_the_empty_page_record_a_deployment(browser: Browser, site: Site) -> None:
    with _window(browser, site) as page:
        commands = page.get_by_label("Commands that record a deployment").inner_text()
        commands = commands.replace("lb_…", site.token)
        environment = {**os.environ, "USER": "alice"}
        typed = subprocess.run(["bash", "-ec", commands], env=environment, capture_output=True, text=True, check=False)
        assert typed.returncode == 0, typed.stderr
        page.reload()
        expect(_timeline(page)).to_have_text(["v1.0.0"])
        expect(page.locator(".timeline .outcome")).to_have_text(["Succeeded"])


def test_charts_have_text_alternatives(browser: Browser, busy_site: Site) -> None:
    with _window(browser, busy_site) as page:
        plot = page.get_by_role("img", name="Deployments per day. 10 succeeded, 3 rolled back, 3 failed.")
        expect(plot).to_be_visible()
        page.get_by_text("Show the charts as a table").click()
        rows = page.locator(".numbers tbody tr")
        assert rows.count() >= 5
        expect(rows.first.get_by_role("cell").first).to_have_text("1")
