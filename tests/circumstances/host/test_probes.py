"""Apps that answer by host name, scheme or headers: they go live, or the deploy says in a sentence why not."""

from __future__ import annotations

import json

from tests.controller import flat
from tests.faults.site import APP, Site

MAIN = (APP / "app/main.py").read_text()
HEADERS = "/etc/slipway/logbook.health-headers.json"

# Before the middleware of the tiny app: what is added last is asked first.
STRICT = """
import fastapi.middleware.httpsredirect
import fastapi.middleware.trustedhost
from fastapi.responses import PlainTextResponse, RedirectResponse

DOMAINS = {domains}
WANTED = ("user-agent", "accept", "x-request-id", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host")


@app.middleware("http")
async def wants_what_nginx_sets(request, call):
    if missing := [name for name in (*WANTED, *{wanted}) if not request.headers.get(name)]:
        return PlainTextResponse(f"no {{missing}}", 400)
    if request.url.scheme != "https" or request.headers["x-forwarded-proto"] != "https":
        return RedirectResponse(request.url.replace(scheme="https"), 301)
    if request.headers["x-forwarded-host"] != request.headers["host"]:
        return PlainTextResponse("two hosts", 421)
    return await call(request)


app.add_middleware(fastapi.middleware.httpsredirect.HTTPSRedirectMiddleware)
app.add_middleware(fastapi.middleware.trustedhost.TrustedHostMiddleware, allowed_hosts=DOMAINS)


@app.post("/guarded")
async def guarded(request: Request):
    return PlainTextResponse("", 403 if "authorization" not in request.headers else 200)
"""


def strict(domains: list[str], wanted: tuple[str, ...] = ()) -> dict[str, str | None]:
    return {"app/main.py": MAIN + STRICT.format(domains=domains, wanted=wanted)}


def test_an_app_that_trusts_only_its_domain_and_https_goes_live(site: Site) -> None:
    """TrustedHostMiddleware, HTTPSRedirectMiddleware and every header that Nginx sets; gate, authentication check and
    watch ask alike."""
    version = site.version(files=strict(["127.0.0.1"], ("x-health-token",)))
    site.write(HEADERS, json.dumps({"X-Health-Token": "s3cret", "Authorization": "Bearer s3cret"}))
    try:
        with site.settings(auth_check="POST /guarded", health_path="/health/ready?deep=1"):
            output = site.deploy(version)
        assert site.phase(version, "start")["message"].endswith("; POST /guarded without credentials: 403")
        receipt = site.phase(version, "result")["detail"]["receipt"]
        assert receipt["probes"] > 1
        assert receipt["failed"] == 0
        assert "s3cret" not in output + site.sh("cat /srv/logbook/journal.jsonl")
        site.deploy(site.good[0])
    finally:
        site.write(HEADERS, "{}\n")


def test_an_app_that_refuses_to_be_asked_like_that_is_explained(site: Site) -> None:
    before = site.live()
    with site.settings(start_deadline=10):
        output = flat(site.fails(site.version(files=strict(["www.example.com"]))))
    assert "HTTP 400: Invalid host header; if it is about the host, the app must allow the host 127.0.0.1:" in output
    assert site.live() == before
