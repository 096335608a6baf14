"""Names of files by which a repository says what it needs and serves: the engine and `inspect` go by the same."""

UV = "uv.lock"
PROJECT = "pyproject.toml"
POETRY, PYLOCK, PIPENV = "poetry.lock", "pylock.toml", "Pipfile.lock"

REQUIREMENTS = (
    "requirements.lock",
    "requirements.txt",
    *(f"requirements/{name}.txt" for name in ("prod", "production", "base", "main", "common", "requirements")),
    *(f"requirements-{name}.txt" for name in ("prod", "production")),
)
# In a directory with several, the first one counts.
LOCKS = (UV, POETRY, PYLOCK, PIPENV, *REQUIREMENTS)

# Other files that say what an app needs, and how one that is read is made of each.
_COMPILE = "type `uv pip compile {} --universal --generate-hashes -o requirements.lock` and commit what it writes"
_CONDA = "packages of conda are not installed. Write those of PyPI into requirements.in, " + _COMPILE.format(
    "requirements.in"
)
UNREAD = {
    "pdm.lock": "type `pdm export --prod -o requirements.lock` and commit what it writes",
    "Pipfile": "type `pipenv lock` and commit Pipfile.lock",
    **{name: _COMPILE.format(name) for name in ("requirements.in", "setup.py", "setup.cfg")},
    **dict.fromkeys(("environment.yml", "environment.yaml", "conda-lock.yml"), _CONDA),
}

# The files in which the command `fastapi` looks for an app, in its order.
MODULES = ("main.py", "app.py", "api.py", "app/main.py", "app/app.py", "app/api.py")


def unread(path: str) -> str:
    """What to do about one of the files that are not read, as a sentence."""
    where, _, name = path.rpartition("/")
    return f"{path} is not read: {UNREAD[name]}{f' (in {where})' if where else ''}."
