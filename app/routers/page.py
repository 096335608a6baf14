"""The page at /, and signing in to it. All responses here are HTML, errors as well."""

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
ON_A_HOST = "slipway run logbook -- "  # prefix of commands on a host, which gives them the app's environment
SIGN_INS = parse("10/minute")  # from one address, for each worker

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with no-referrer browsers would not send the origin of a form
    "X-Content-Type-Options": "nosniff",
}

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class PageError(Exception):
    """An error page. It is raised and not returned, so that the changes of the route are rolled back."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


class PageRoute(APIRoute):
    """A route whose responses have the page's headers, and whose errors are HTML pages."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                response = await handle(request)
            except RequestValidationError as error:
                raise _error(request, 422, "The form's data is not valid.") from error
            except HTTPException as error:
                raise _error(request, error.status_code, str(error.detail)) from error
            except (PoolTimeoutError, DBAPIError) as error:
                if not is_outage(error):
                    raise  # an error in the Logbook itself
                log.warning("the database does not answer: %s", type(error).__name__)
                sentence = "The database does not answer. Try again in a moment."
                raise _error(request, 503, sentence, {"Retry-After": "5"}) from error
            response.headers.update(HEADERS)
            return response

        return answer


class Static(StaticFiles):
    """Static files. A browser may cache one without end if its URL has the digest of its content."""

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
    """The URL of a static file, with a digest of its content."""
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
    """Add the page, its files, and the rate limit for signing in."""
    app.state.sign_ins = FixedWindowRateLimiter(MemoryStorage())
    app.include_router(router)
    app.mount("/static", Static(directory=STATIC), name="static")

    @app.exception_handler(PageError)
    async def failed(_: Request, error: PageError) -> Response:
        return error.response


@router.api_route("/", methods=["GET", "HEAD"])
async def index(request: Request, session: Session) -> Response:
    """The page: live releases, figures and timeline."""
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
    """The sign-in form. A client that has already signed in is redirected to the page that it wanted."""
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
    # Counted before the token is checked, or many attempts at the same time would all pass.
    if not limiter.hit(SIGN_INS, client):
        seconds = max(1, math.ceil(limiter.get_window_stats(SIGN_INS, client).reset_time - time.time()))
        error = f"Too many attempts from your address. Try again in {seconds} s."
        return _form(request, wanted, error, 429, {"Retry-After": str(seconds)})
    try:
        known = await tokens.authenticate(session, token.strip())
    except UnauthorizedError:
        error = "This token is not valid: it is mistyped, or was revoked."
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
    """Whether the client has signed in; checked at every visit, so that revoking a token has an effect at once."""
    token_id = sessions.token_id(request)
    token = None if token_id is None else await tokens.get_valid(session, token_id)
    if token is not None:
        request.state.token_name = token.name  # for the log
    return token is not None


def _refuse_foreign(request: Request) -> None:
    """Refuse forms that other sites send to sign in or out. Only browsers send these two headers."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    ours = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if site not in ("same-origin", "none") or not ours:
        raise HTTPException(403, "This form was sent from another site. Open the page of this site and try again.")


def _local(wanted: str) -> str:
    """The path to redirect to after signing in: the page with its filters, never another site."""
    return wanted if wanted.startswith("/?") else "/"


def _with(names: list[str], chosen: str | None) -> list[str]:
    """The names to choose from, including the chosen one, which may not be in `names`."""
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
