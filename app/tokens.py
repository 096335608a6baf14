"""Tokens from the command line, as the first one cannot be created with the API. `python -m app.tokens --help`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import make_engine, make_sessions
from app.errors import LogbookError
from app.schemas.token import Scope, TokenCreate
from app.services import tokens
from app.settings import SettingsError, get_settings

PAGE = 100


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="python -m app.tokens", description="Creates and revokes the Logbook's tokens.")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    added = commands.add_parser("create", help="create a token and print it; it is not shown again")
    added.add_argument("--name", required=True, help="who uses it, for example ci")
    added.add_argument("--scope", required=True, choices=list(Scope), help="each scope includes those before it")
    commands.add_parser("list", help="list all tokens, without their secrets")
    added = commands.add_parser("revoke", help="revoke a token: it is refused from now on")
    added.add_argument("id", type=int, help="the number of the token in the list")
    return root


async def _run(options: argparse.Namespace, session: AsyncSession) -> None:
    if options.command == "create":
        _, text = await tokens.create(session, TokenCreate(name=options.name, scope=options.scope))
        await session.commit()  # before it is shown: a token that was not stored would not work
        print(text)
    elif options.command == "revoke":
        revoked = await tokens.revoke(session, options.id)
        await session.commit()
        print(f"{revoked.name} is revoked.")
    else:
        await _list(session)


async def _list(session: AsyncSession) -> None:
    after, more = 0, True
    while more:
        found, more = await tokens.page(session, after, PAGE)
        for token in found:
            used = f"last used {token.last_used_at:%Y-%m-%d %H:%M} UTC" if token.last_used_at else "never used"
            revoked = ", revoked" if token.revoked_at else ""
            print(f"{token.id:>4}  {token.scope:<5}  {token.name}, {used}{revoked}")
            after = token.id


async def _main(options: argparse.Namespace) -> None:
    engine = make_engine(get_settings())
    try:
        async with make_sessions(engine)[0]() as session:
            await _run(options, session)
    finally:
        await engine.dispose()


def main(arguments: Sequence[str]) -> int:
    """Run a command; the exit code is 0, or 1 after one sentence that says what is wrong."""
    options = parser().parse_args(arguments)
    try:
        asyncio.run(_main(options))
    except (SettingsError, LogbookError) as error:
        print(error, file=sys.stderr)
    except ValidationError as error:
        print(f"--{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}.", file=sys.stderr)
    except DBAPIError as error:
        reason = str(error.orig).splitlines()[0]
        print(f"The database query failed ({reason}). If it is not migrated yet: alembic upgrade head", file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
