"""Creates the databases of all apps, their roles and privileges, in one call to the host."""

from __future__ import annotations

import json
import secrets
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: slipway_databases
short_description: Create databases with three roles each
description:
  - One module call for a role, a membership or a privilege takes a third of a second, whatever it does, and an app has
    eight of them. This is one call for all apps, and three questions to the server.
options:
  databases:
    description: As C(postgresql_databases) of the role.
    type: list
    elements: dict
    required: true
  migrate_settings:
    description: Settings of each role that migrates, by their names.
    type: dict
    required: true
  programs:
    description: Directory of psql.
    type: path
    required: true
  host:
    description: Directory of the server's socket.
    type: path
    default: /run/postgresql
  port:
    description: The server's port, which names the socket.
    type: int
    required: true
  user:
    description: The superuser.
    type: str
    default: postgres
  privileges:
    description: SQL that answers with the statements that an app lacks, where migrations own the schema.
    type: str
    required: true
  own:
    description: The same, where the app owns it.
    type: str
    required: true
author: Slipway
"""

EXAMPLES = r"""
- name: Create the databases of two apps
  slipway_databases:
    databases: [{name: shop, connections: 20}, {name: blog, connections: 10, owner: app}]
    migrate_settings: {lock_timeout: 2000ms}
    programs: /usr/lib/postgresql/17/bin
    port: 5432
    privileges: "{{ lookup('ansible.builtin.file', 'missing_privileges.sql') }}"
    own: "{{ lookup('ansible.builtin.file', 'the_apps_own.sql') }}"
"""

RETURN = r"""
statements:
  description: What was run, or would be in check mode.
  type: list
  returned: always
"""

# What the server has, as one object.
ASK = """
SELECT json_build_object(
  'roles', (SELECT json_object_agg(r.rolname, json_build_object(
      'flags', json_build_array(r.rolcanlogin, r.rolsuper, r.rolcreatedb, r.rolcreaterole), 'limit', r.rolconnlimit,
      'settings', coalesce((SELECT s.setconfig FROM pg_db_role_setting s WHERE s.setrole = r.oid AND s.setdatabase = 0),
                           '{}'),
      'member_of', ARRAY(SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                          WHERE m.member = r.oid)))
    FROM pg_roles r),
  'databases', (SELECT json_object_agg(d.datname, json_build_object(
      'owner', pg_get_userbyid(d.datdba), 'encoding', pg_encoding_to_char(d.encoding),
      'granted', ARRAY(SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END
                              || ' ' || a.privilege_type
                         FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a)))
    FROM pg_database d));
"""
FLAGS = ("LOGIN", "SUPERUSER", "CREATEDB", "CREATEROLE")


class RefusedError(Exception):
    """A sentence that says what the server refused."""


def name(text: str) -> str:
    """A name of SQL."""
    return '"' + text.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _roles(wanted: dict[str, Any], migrate: dict[str, str]) -> dict[str, dict[str, Any]]:
    app = wanted["name"]
    none = {"limit": -1, "settings": {}, "member_of": None}
    return {
        f"{app}_owner": {**none, "login": False},
        f"{app}_migrate": {
            **none,
            "login": True,
            "settings": {**migrate, "role": f"{app}_owner"},
            "member_of": [f"{app}_owner"],
        },
        app: {**none, "login": True, "limit": int(wanted.get("limit") or wanted["connections"])},
    }


def of_roles(there: dict[str, Any], wanted: dict[str, Any], migrate: dict[str, str]) -> list[str]:
    """The statements that make the roles of a database what they are to be."""
    found = []
    for role, given in _roles(wanted, migrate).items():
        # What CREATE ROLE gives, where it is not there.
        before = there["roles"].get(role, {"flags": [False] * 4, "limit": -1, "settings": [], "member_of": []})
        if role not in there["roles"]:
            found.append(f"CREATE ROLE {name(role)}")
        flags = [given["login"], False, False, False]
        if before["flags"] != flags or before["limit"] != given["limit"]:
            said = " ".join(flag if on else f"NO{flag}" for flag, on in zip(FLAGS, flags, strict=True))
            found.append(f"ALTER ROLE {name(role)} {said} CONNECTION LIMIT {given['limit']}")
        settings = dict(line.split("=", 1) for line in before["settings"])
        found += [f"ALTER ROLE {name(role)} RESET {name(key)}" for key in settings if key not in given["settings"]]
        found += [
            f"ALTER ROLE {name(role)} SET {name(key)} = {literal(value)}"
            for key, value in given["settings"].items()
            if settings.get(key) != value
        ]
        if given["member_of"] is not None:
            found += [
                f"REVOKE {name(other)} FROM {name(role)}"
                for other in before["member_of"]
                if other not in given["member_of"]
            ]
            found += [
                f"GRANT {name(other)} TO {name(role)}"
                for other in given["member_of"]
                if other not in before["member_of"]
            ]
    return found


def of_database(there: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """The statements that create a database, or give it to the role that owns it."""
    app = wanted["name"]
    owner = app if wanted.get("owner", "migrate") == "app" else f"{app}_owner"
    before = there["databases"].get(app)
    if before is None:
        return [f"CREATE DATABASE {name(app)} OWNER {name(owner)} ENCODING 'UTF8' TEMPLATE template0"]
    if before["encoding"] != "UTF8":
        raise RefusedError(
            f"Database {app} has the encoding {before['encoding']}, and has to have UTF8. Dump it, drop it, load the "
            "dump into the one that site.yml makes."
        )
    return [] if before["owner"] == owner else [f"ALTER DATABASE {name(app)} OWNER TO {name(owner)}"]


def of_access(there: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """The statements that let the app's roles into a database that is there, and nobody else."""
    app = wanted["name"]
    granted = there["databases"][app]["granted"]
    found = []
    if any(line.startswith("PUBLIC ") for line in granted):
        found.append(f"REVOKE ALL ON DATABASE {name(app)} FROM PUBLIC")
    found += [
        f"GRANT CONNECT, TEMPORARY ON DATABASE {name(app)} TO {name(role)}"
        for role in (app, f"{app}_migrate")
        if not {f"{role} CONNECT", f"{role} TEMPORARY"} <= set(granted)
    ]
    return found


def asked_of_each(databases: list[dict[str, Any]], scripts: dict[str, str], mark: str) -> str:
    """One script that asks each database for what its app lacks. Its answers stand behind lines that begin with `mark`.

    `mark` is random: what a database answers has names in it that a migration has chosen.
    """
    parts = []
    for each in databases:
        app, script = each["name"], scripts[each.get("owner", "migrate")]
        given = f"\\set app {literal(app)}\n\\set owner {literal(app + '_owner')}"
        parts.append(f"\\connect {name(app)}\n{given}\n\\echo {mark}{app}\n{script}")
    return "\n".join(parts)


def answers(text: str, mark: str) -> dict[str, str]:
    """The statements by database, of those that lack something."""
    found = {}
    for part in text.split(mark)[1:]:
        database, _, statements = part.partition("\n")
        if statements.strip():
            found[database] = statements.strip()
    return found


class Psql:
    """The server's superuser, by psql."""

    def __init__(self, programs: str, host: str, port: int, user: str) -> None:
        self._command = [
            *(str(Path(programs) / "psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"),
            *("--set=ON_ERROR_STOP=1", f"--host={host}", f"--port={port}", f"--username={user}"),
        ]

    def __call__(self, script: str, database: str = "postgres", *options: str) -> str:
        command = [*self._command, f"--dbname={database}", *options]
        done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = next((line for line in done.stderr.splitlines() if line.strip()), f"code {done.returncode}")
            raise RefusedError(f"PostgreSQL refuses to prepare the databases: {said.strip()}")
        return done.stdout


def provide(psql: Psql, databases: list[dict[str, Any]], migrate: dict[str, str], scripts: dict[str, str],
            *, check: bool) -> list[str]:  # fmt: skip
    """Make all databases what they are to be; the statements that it took, or would take."""

    def do(statements: list[str]) -> list[str]:
        if statements and not check:
            psql(";\n".join(statements))
        return statements

    there = json.loads(psql(ASK))
    done = do(
        [statement for each in databases for statement in (*of_roles(there, each, migrate), *of_database(there, each))]
    )
    if done and not check:
        there = json.loads(psql(ASK))
    present = [each for each in databases if each["name"] in there["databases"]]
    done += do([statement for each in present for statement in of_access(there, each)])
    # In check mode a database without its roles cannot be asked.
    complete = [each for each in present if set(_roles(each, migrate)) <= set(there["roles"])]
    mark = f"-- {secrets.token_hex(16)} "
    for database, statements in answers(psql(asked_of_each(complete, scripts, mark)), mark).items():
        if not check:
            psql(statements, database, "--single-transaction")
        done += statements.splitlines()
    return done


def main() -> None:
    """Read the arguments, act, and say what was done."""
    options: dict[str, Any] = {
        "databases": {"type": "list", "elements": "dict", "required": True},
        "migrate_settings": {"type": "dict", "required": True},
        "programs": {"type": "path", "required": True},
        "host": {"type": "path", "default": "/run/postgresql"},
        "port": {"type": "int", "required": True},
        "user": {"type": "str", "default": "postgres"},
        "privileges": {"type": "str", "required": True},
        "own": {"type": "str", "required": True},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    asked = module.params
    try:
        done = provide(
            Psql(asked["programs"], asked["host"], asked["port"], asked["user"]),
            asked["databases"],
            asked["migrate_settings"],
            {"migrate": asked["privileges"], "app": asked["own"]},
            check=module.check_mode,
        )
    except (RefusedError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(done), statements=done)


if __name__ == "__main__":
    main()
