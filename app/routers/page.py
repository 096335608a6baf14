"""The page at /, and signing in to it. Here people get HTML, also when something is wrong."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jinja2
from fastapi import APIRouter, FastAPI, Form, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.exceptions import HTTPException

from app import charts, sessions, view
from app.database import Session
from app.errors import UnauthorizedError, is_outage
from app.models import Status
from app.schemas.deployment import Cursor, Filter
from app.services import deployments, figures, services, tokens
from app.settings import Environment, Settings

log = logging.getLogger(__name__)

APP = Path(__file__).resolve().parents[1]
STATIC = APP / "static"

ON_A_PAGE = 25
MOST_LIVE = 500
ON_A_HOST = "slipway run logbook -- "  # what commands there begin with, to have the app's environment
SIGN_INS = parse("10/minute")  # of one address, at one worker

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with no-referrer browsers would not say where a form comes from
    "X-Content-Type-Options": "nosniff",
}

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class PageError(Exception):
    """A page that says what is wrong. It is raised, not returned: what the route did is rolled back."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


class PageRoute(APIRoute):
    """A route whose answers have the page's headers, and whose errors are pages."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                response = await handle(request)
            except RequestValidationError as error:
                raise _error(request, 422, "What the form sent cannot be read.") from error
            except HTTPException as error:
                raise _error(request, error.status_code, str(error.detail)) from error
            except (PoolTimeoutError, DBAPIError) as error:
                if not is_outage(error):
                    raise  # a mistake of ours
                log.warning("the database does not answer: %s", type(error).__name__)
                sentence = "The database does not answer. Try again in a moment."
                raise _error(request, 503, sentence, {"Retry-After": "5"}) from error
            response.headers.update(HEADERS)
            return response

        return answer


class Static(StaticFiles):
    """Files that a browser may keep for good when their address says which content it wants."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        path, scope = Path(args[0]), args[2]
        wanted = parse_qs(scope["query_string"].decode("latin-1")).get("v", [])
        known = wanted == [_digest(path)]
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if known else "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _static(name: str) -> str:
    """The address of a static file, a new one whenever its content is."""
    return f"/static/{name}?v={_digest(STATIC / name)}"


templates = Jinja2Templates(
    env=jinja2.Environment(
        loader=jinja2.FileSystemLoader(APP / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
)
templates.env.globals.update(static=_static, short=view.SHORT, windows=view.WINDOWS, phases=view.phases)
templates.env.filters.update(duration=view.duration, stamp=view.stamp, short_date=view.short_date)

router = APIRouter(route_class=PageRoute, include_in_schema=False)


def install(app: FastAPI) -> None:
    """Add the page, its files, and the count of who tries to sign in."""
    app.state.sign_ins = FixedWindowRateLimiter(MemoryStorage())
    app.include_router(router)
    app.mount("/static", Static(directory=STATIC), name="static")

    @app.exception_handler(PageError)
    async def failed(_: Request, error: PageError) -> Response:
        return error.response


@router.api_route("/", methods=["GET", "HEAD"])
async def index(request: Request, session: Session) -> Response:
    """What is live where, the figures, and the timeline."""
    query = view.Query.parse(request.query_params)
    public = request.app.state.settings.public_page
    if not public and not await _is_signed_in(request, session):
        wanted = query.url() if request.url.query else "/"
        return _redirect("/sign-in" if wanted == "/" else f"/sign-in?{urlencode({'next': wanted})}")
    wanted_ones = Filter(service=query.service, environment=query.environment, status=query.status)
    found, more = await deployments.page(session, wanted_ones, query.before, ON_A_PAGE)
    live, complete = await deployments.live(session, query.service, query.environment, MOST_LIVE)
    measured = await figures.measure(session, query.service, query.environment, query.days)
    days = view.every_day(measured.days, measured.since.date(), measured.until.date())
    return _page(
        request,
        "index.html",
        query=query,
        public=public,
        services=_with(await services.names(session), query.service),
        environments=_with(await deployments.environments(session), query.environment),
        statuses=tuple(Status),
        running=view.running(live),
        complete=complete,
        figures=measured,
        days=days,
        per_day=charts.deployments_per_day(days),
        durations=charts.median_per_day(days),
        timeline=view.by_day(found),
        older=query.url(before=Cursor.of(found[-1])) if more else None,
        address=str(request.base_url).rstrip("/"),
    )


@router.api_route("/sign-in", methods=["GET", "HEAD"])
async def ask(request: Request, session: Session) -> Response:
    """The form; whoever has signed in already goes on to what they wanted."""
    wanted = _local(request.query_params.get("next", ""))
    if request.app.state.settings.public_page or await _is_signed_in(request, session):
        return _redirect(wanted)
    return _form(request, wanted)


@router.post("/sign-in")
async def sign_in(
    request: Request,
    session: Session,
    token: Annotated[str, Form()] = "",
    wanted: Annotated[str, Form(alias="next")] = "",
) -> Response:
    _refuse_foreign(request)
    wanted = _local(wanted)
    limiter: FixedWindowRateLimiter = request.app.state.sign_ins
    client = request.client.host if request.client else ""
    # Counted before it is known how it ends, or many at once would all be let through.
    if not limiter.hit(SIGN_INS, client):
        seconds = max(1, math.ceil(limiter.get_window_stats(SIGN_INS, client).reset_time - time.time()))
        error = f"Too many attempts from your address. Try again in {seconds} s."
        return _form(request, wanted, error, 429, {"Retry-After": str(seconds)})
    try:
        known = await tokens.authenticate(session, token.strip())
    except UnauthorizedError:
        error = "This token is not valid here: it is mistyped, or it has been revoked."
        return _form(request, wanted, error, 401, {"WWW-Authenticate": "Bearer"})
    limiter.clear(SIGN_INS, client)
    request.state.token_name = known.name  # for the log
    response = _redirect(wanted)
    sessions.start(request, response, known.id)
    return response


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    _refuse_foreign(request)
    response = _redirect("/sign-in")
    sessions.end(request, response)
    return response


async def _is_signed_in(request: Request, session: AsyncSession) -> bool:
    """Asked at every visit, so that a token that is revoked shows nothing any more."""
    token_id = sessions.token_id(request)
    token = None if token_id is None else await tokens.get_valid(session, token_id)
    if token is not None:
        request.state.token_name = token.name  # for the log
    return token is not None


def _refuse_foreign(request: Request) -> None:
    """Only our own forms may sign anybody in or out. What is no browser sends neither header, and has no visit."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    ours = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if site not in ("same-origin", "none") or not ours:
        raise HTTPException(403, "This form was sent from another site. Open the page here and try again.")


def _local(wanted: str) -> str:
    """Where to go after signing in: the page with its filters, and never another site."""
    return wanted if wanted.startswith("/?") else "/"


def _with(names: list[str], chosen: str | None) -> list[str]:
    """Names to choose from; also the chosen one, which may be none of them."""
    return sorted({*names, chosen}) if chosen else names


def _redirect(path: str) -> RedirectResponse:
    return RedirectResponse(path, HTTPStatus.SEE_OTHER)


def _form(
    request: Request, wanted: str, error: str = "", status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    return _page(request, "sign_in.html", status, headers, next=wanted, error=error)


def _error(request: Request, status: int, sentence: str, headers: dict[str, str] | None = None) -> PageError:
    values = {"title": HTTPStatus(status).phrase, "sentence": sentence}
    return PageError(_page(request, "failure.html", status, {**HEADERS, **(headers or {})}, **values))


def _page(
    request: Request, name: str, status: int = 200, headers: dict[str, str] | None = None, **values: Any
) -> Response:
    settings: Settings = request.app.state.settings
    run = ON_A_HOST if settings.env is Environment.PRODUCTION else ""
    values |= {"settings": settings, "today": datetime.now(UTC).date(), "run": run}
    return templates.TemplateResponse(request, name, values, status, headers)
