"""What alembic knows of a release. This file runs in the release's virtualenv, not in the engine.

It is passed to the release's own Python, with the number of the file descriptor to write the answer to: the project may
print to the usual ones. It must run on every Python and alembic that a project may have, so it uses alembic's public
functions only, and reads the configuration as its command line does.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import Script, ScriptDirectory

# Where the table is; before there is one, where it is going to be.
SCHEMA = """
SELECT coalesce((SELECT nspname FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid
                  WHERE c.oid = to_regclass(:name)), current_schema())
"""


def main(descriptor: int) -> None:
    with os.fdopen(descriptor, "w", encoding="utf-8") as answer:
        json.dump(look(), answer)


def look() -> dict[str, Any]:
    """The revisions, the heads and the table of versions; or why there are none, as {"absent": reason}."""
    try:
        from alembic.script import ScriptDirectory
    except ModuleNotFoundError as error:
        if error.name != "alembic":
            raise
        return {"absent": "alembic is not among its packages"}
    config = configuration()
    if not has_location(config):
        return {"absent": "alembic finds no configuration"}
    script = ScriptDirectory.from_config(config)
    revisions = [describe(script, item) for item in script.walk_revisions()][::-1]
    return {
        "heads": list(script.get_heads()),
        "revisions": revisions,
        "version_table": version_table(config, script) if revisions else "",
    }


def configuration() -> Config:
    """alembic's configuration, read from where its command line would read it."""
    from argparse import Namespace

    from alembic.config import CommandLine

    class Reader(CommandLine):
        def run_cmd(self, config: Config, options: Namespace) -> None:  # noqa: ARG002  # not the command is wanted
            self.found = config

    reader = Reader(prog="alembic")
    reader.main(["heads"])
    return reader.found


def has_location(config: Config) -> bool:
    from alembic.util import CommandError

    try:
        return getattr(config, "get_alembic_option", config.get_main_option)("script_location") is not None
    except CommandError:  # there is no such file, or no such section in it
        return False


def describe(script: ScriptDirectory, item: Script) -> dict[str, Any]:
    down = item.down_revision or ()
    depends = item.dependencies or ()
    depends = (depends,) if isinstance(depends, str) else tuple(depends)  # may be labels, or parts of identifiers
    return {
        "revision": item.revision,
        "message": (item.doc or "").strip(),
        "oldest_compatible": getattr(item.module, "oldest_compatible", None),
        "down": [down] if isinstance(down, str) else list(down),
        "depends": [found.revision for found in script.get_revisions(depends)] if depends else [],
        "labels": sorted(item.branch_labels),
    }


def version_table(config: Config, script: ScriptDirectory) -> str:
    """The table in which alembic keeps the database's revision, as env.py chooses it, quoted for SQL."""
    from alembic.runtime.environment import EnvironmentContext
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import text

    found: list[str] = []

    def visit(_revision: Any, context: MigrationContext) -> list[Any]:
        connection = context.connection
        assert connection is not None  # noqa: S101  # only a dry run has none
        quote = connection.dialect.identifier_preparer.quote
        table = quote(context.version_table)
        schema = context.version_table_schema
        if schema is None and connection.dialect.name == "postgresql":
            schema = connection.scalar(text(SCHEMA), {"name": table})
        found.append(table if schema is None else quote(schema) + "." + table)
        return []  # no migration is to be run

    with EnvironmentContext(config, script, fn=visit, dont_mutate=True):
        script.run_env()
    return found[0] if found else ""


if __name__ == "__main__":
    main(int(sys.argv[1]))
