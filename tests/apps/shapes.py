"""The repositories of the seven apps: one version that is first, one that comes after it, and one that is broken."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import yaml

from hosts import scratch

HERE = Path(__file__).parent
SHAPES = HERE / "shapes"
INVENTORY = HERE / "inventory.yml"
NAMES = sorted(yaml.safe_load(INVENTORY.read_text())["apps"])

FIRST, SECOND, BROKEN = "v1.0.0", "v2.0.0", "v3.0.0"

_MIGRATION = """from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    {work}


def downgrade() -> None:
    pass
"""


def _next_migration(directory: str, revision: str, before: str, work: str) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        text = _MIGRATION.format(revision=revision, before=before, work=work)
        (tree / directory / f"{revision}_next.py").write_text(text)

    return change


def _append(name: str, text: str) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        with (tree / name).open("a") as file:
            file.write(text)

    return change


def _another_style(tree: Path) -> None:
    (tree / "web/assets/site.1111.css").unlink()
    (tree / "web/assets/site.2222.css").write_text("body { color: red }\n")


def _seed_fails(tree: Path) -> None:
    file = tree / "manage.py"
    file.write_text(
        file.read_text().replace("def seed(", 'def seed(_: object) -> None:\n    sys.exit("no seeds")\n\n\ndef unused(')
    )


def _other_hash(tree: Path) -> None:
    file = tree / "Pipfile.lock"
    start, found, rest = file.read_text().partition('"fastapi": {')
    wrong = rest.replace("sha256:", "sha256:00000000", 2)
    file.write_text(start + found + wrong)


# What the second version has that the first one lacks; other apps only have another tag.
CHANGES: dict[str, Callable[[Path], None]] = {
    "billing": _next_migration(
        "services/api/migrations/versions", "0002", "0001", 'op.execute("ALTER TABLE invoice ADD paid boolean")'
    ),
    "guests": _next_migration(
        "migrations/versions", "0002", "0001", 'op.execute("ALTER TABLE guest ADD signed timestamp")'
    ),
    "notices": _another_style,
}

# How the broken version is broken, the phase that finds it, and a word of what is said.
BREAKS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "billing": (
        _next_migration("services/api/migrations/versions", "0003", "0002", 'op.execute("SELECT broken_on_purpose")'),
        "migrate",
        "broken_on_purpose",
    ),
    "guests": (
        _next_migration("migrations/versions", "0003", "0002", 'op.execute("SELECT broken_on_purpose")'),
        "migrate",
        "broken_on_purpose",
    ),
    "orders": (_append("orders/main.py", '\nraise RuntimeError("broken on purpose")\n'), "start", "broken on purpose"),
    "notices": (_seed_fails, "migrate", "no seeds"),
    "chat": (_append("main.py", "\nimport not_in_the_lock\n"), "start", "not_in_the_lock"),
    "album": (_other_hash, "stage", "fastapi"),
    "ticker": (_append("src/ticker/main.py", "\n\nBase = None\n"), "start", "metadata"),
}


def make(name: str, repository: Path) -> None:
    """The repository of an app with its three versions."""
    tree = repository
    shutil.copytree(SHAPES / name, tree, ignore=shutil.ignore_patterns("__pycache__", ".venv"))
    scratch.git(tree, "init", "--quiet", "--initial-branch=main")
    nothing: Callable[[Path], None] = lambda _: None  # noqa: E731
    for tag, change in ((FIRST, nothing), (SECOND, CHANGES.get(name, nothing)), (BROKEN, BREAKS[name][0])):
        change(tree)
        scratch.git(tree, "add", "--all", "--force")
        scratch.git(tree, "commit", "--quiet", "--allow-empty", "--message", tag)
        scratch.git(tree, "tag", "--annotate", tag, "--message", tag)


def entries() -> dict[str, list[str]]:
    """The lines of each app's entry, as they are written: without blank ones and comments."""
    found: dict[str, list[str]] = {}
    for line in INVENTORY.read_text().partition("apps:\n")[2].splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line.startswith("  ") and line[2] != " ":
            found[line.strip().rstrip(":")] = []
        found[list(found)[-1]].append(line)
    return found
