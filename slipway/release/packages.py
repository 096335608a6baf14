"""The packages of a release: what its lock file pins, installed by uv into a virtualenv that can be renamed."""

from __future__ import annotations

import json
import posixpath
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from slipway.base import files, process
from slipway.base.errors import FailedError
from slipway.release import (
    compat,
    explain,
    lockfile,
    locks,
    markers,
    pins,
    pipfile,
    poetry,
    pylock,
    requirements,
    source,
)
from slipway.release.pins import Pin, Plan
from slipway.release.work import Work

_HERE = "/@release"  # stands for the release's directory in a record of what was installed
_CANDIDATES = ("3.14", "3.13", "3.12", "3.11", "3.10", "3.9")
_MISSING = re.compile(r"The package `([^`]+)` requires `([^`]+)`, but it's not installed")
_PYPI = ("https://pypi.org/simple", "https://pypi.python.org/simple")


class Installer:
    """Installs the packages of one release, once. `told` are variables for the build of the project itself."""

    def __init__(self, work: Work, release: Path, told: Mapping[str, str]) -> None:
        self._work = work
        self._release = release
        self._lock = locks.find(work.directory, self._has, work.lock)
        self._project = locks.project(work.directory, self._has)
        self._environment = {
            "HOME": work.cache,
            "UV_CACHE_DIR": work.cache,
            "UV_LINK_MODE": "copy",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_CONFIG": "1",
            "UV_PROJECT_ENVIRONMENT": str(release / ".venv"),
            "VIRTUAL_ENV": str(release / ".venv"),
            **told,
        }
        self._room = Path(tempfile.mkdtemp())  # for files that uv reads
        self.record = ""  # what was installed of packages that nobody has pinned

    def install(self) -> None:
        """Install them; FailedError, in a sentence, when something is not pinned, or not to be had for this Python."""
        try:
            environment = self._markers()
            if locks.kind(self._lock) == locks.UV:
                self._sync(environment)
            else:
                self._install(environment)
        finally:
            shutil.rmtree(self._room)

    # uv's own lock file

    def _sync(self, environment: Mapping[str, str]) -> None:
        work = self._work
        chosen = [
            *(f"--extra={name}" for name in work.extras),
            *(f"--group={name}" for name in work.groups),
            *lockfile.options(
                self._release,
                work.build_packages,
                work.directory,
                (*work.extras, *work.groups),
                unpinned_builds=work.allow_unpinned,
            ),
        ]
        listing = lockfile.listing(self._release, work.directory, (*work.extras, *work.groups))
        self._check_python(listing, environment)
        command = ["sync", "--frozen", "--no-default-groups", "--no-editable", *chosen]
        if not work.donor:
            self._make_virtualenv()
            command.append("--compile-bytecode")
        self._uv(command, "uv sync")

    # All others

    def _install(self, environment: Mapping[str, str]) -> None:
        work, lock = self._work, self._lock
        listing = self._listing()
        plan = listing(environment)
        if plan.loose:
            plan = self._pinned_here(plan)
        else:
            self._check_python(listing, environment)
        pins.check(plan, lock, locks.cure(lock))
        if not work.donor:
            self._make_virtualenv()
        own = self._own_project()
        installed = replace(plan, pins=[*plan.pins, *([Pin("", path=own)] if own is not None else [])])
        self._list(pins.render(installed, self._release))
        options = [f"--only-binary={name}" for name in pins.not_to_build(plan, work.build_packages)]
        options += self._build_constraints()
        command = ["pip", "sync", *options, *([] if work.donor else ["--compile-bytecode"]), self._place()]
        self._uv(command, "uv pip sync", variables=self._indexes(plan), hint=lambda: self._other_python(plan))
        if not locks.kind(lock):
            self._check_complete()

    def _listing(self) -> Callable[[Mapping[str, str]], Plan]:
        """What the lock file pins for a Python; FailedError when it cannot be read."""
        work, lock, place = self._work, self._lock, posixpath.dirname(self._lock)
        kind = locks.kind(lock)

        def read(environment: Mapping[str, str]) -> Plan:
            if kind == locks.PROJECT:
                return Plan(loose="what pyproject.toml needs", files=[lock])
            if not kind:
                return self._relative(requirements.read(lock, self._text, work.build_env))
            if kind == locks.PIPENV:
                return pipfile.read(json.loads(self._text(lock)), place, work.groups, work.build_env)
            found = tomllib.loads(self._text(lock))
            if kind == locks.PYLOCK:
                return pylock.read(found, place, environment, work.extras, work.groups)
            project = source.project(self._release, work.directory)
            return poetry.read(found, project, place, environment, work.extras, work.groups)

        def safely(environment: Mapping[str, str]) -> Plan:
            try:
                return read(environment)
            except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
                why = getattr(error, "strerror", None) or type(error).__name__
                if str(error).startswith("it includes"):  # of `requirements`, which says what is wrong
                    why = str(error)
                raise FailedError(f"{lock} cannot be read ({why}). {locks.cure(lock)}") from None

        return safely

    def _relative(self, plan: Plan) -> Plan:
        """Paths of the release, where a record has whole ones, from its top."""
        moved = [
            pin.path.removeprefix(_HERE).removeprefix("/") if _is_here(pin.path) else pin.path for pin in plan.pins
        ]
        return replace(
            plan,
            pins=[
                replace(pin, path=path or ("." if pin.path else "")) for pin, path in zip(plan.pins, moved, strict=True)
            ],
        )

    def _pinned_here(self, plan: Plan) -> Plan:
        """What is not pinned, pinned: as it was recorded, or else as uv finds it now, where that is allowed."""
        work, lock = self._work, self._lock
        if not work.allow_unpinned:
            raise FailedError(
                f"{lock} does not pin what is installed ({plan.loose[:100]}), so nobody knows what it would be. "
                f"{self._cure()} Or set apps.{work.app}.allow_unpinned to true."
            )
        self.record = work.record or self._resolve(plan)
        # Relative paths are from where uv runs.
        where = posixpath.join(work.directory, "record")
        made = self._relative(requirements.read(where, lambda _: self.record))
        if made.loose:
            raise FailedError(f"What was resolved of {lock} is not pinned ({made.loose[:100]}).")
        return replace(made, indexes=plan.indexes, instead=plan.instead)

    def _cure(self) -> str:
        other = locks.unread(self._work.directory, self._has) if locks.kind(self._lock) == locks.PROJECT else ""
        return other[:1].upper() + other[1:] or locks.cure(self._lock)

    def _resolve(self, plan: Plan) -> str:
        """What uv finds for this Python, with hashes, as a record; of packages that there were at a time."""
        work, lock = self._work, self._lock
        declared = source.project(self._release, work.directory)
        needs = poetry.needs_of_pyproject(declared)
        # Of a project in the repository, and of one that only its build knows the needs of, the code has to be run.
        has_local = any(pin.path for pin in plan.pins) or (locks.kind(lock) == locks.PROJECT and needs != "static")
        command = ["pip", "compile", "--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url"]
        command += ["--exclude-newer", work.cutoff] if work.cutoff else []
        command += [] if has_local or work.build_packages else ["--only-binary=:all:"]
        given: str | Path = self._release / lock
        if locks.kind(lock) == locks.PROJECT and needs == "poetry":
            place = (self._release / posixpath.dirname(lock)).as_uri()
            self._list("".join(f"{line}\n" for line in poetry.texts(declared, work.extras, work.groups, place)))
            given = self._place()
        elif locks.kind(lock) == locks.PROJECT:
            command += [*(f"--extra={name}" for name in work.extras), *(f"--group={given}:{g}" for g in work.groups)]
        target = self._room / "resolved.txt"
        self._uv([*command, f"--output-file={target}", str(given)], "uv pip compile", variables=self._indexes(plan))
        made = target.read_text()
        if locks.kind(lock) == locks.PROJECT:
            made = "\n".join(self._whole(line, posixpath.dirname(lock)) for line in made.splitlines()) + "\n"
        return made.replace(self._release.as_uri(), f"file://{_HERE}").replace(str(self._release), _HERE)

    def _whole(self, line: str, place: str) -> str:
        """A line of what uv has found; a path of [tool.uv.sources], which stands there as it is, as a whole one."""
        path, *marker = line.split(" ; ")
        is_path = path and not re.search(r"[=@\s#]|^-", path) and (self._release / place / path).exists()
        return " ; ".join([posixpath.normpath(self._release / place / path), *marker]) if is_path else line

    def _own_project(self) -> str | None:
        """The directory of the project itself where it says that it is a package, from the top of the release."""
        kind, place = locks.kind(self._lock), posixpath.dirname(self._project)
        if kind not in (locks.POETRY, locks.PYLOCK, locks.PROJECT) or not self._project:
            return None
        declared = source.project(self._release, self._work.directory)
        if not poetry.is_package(declared) or declared.get("tool", {}).get("uv", {}).get("package") is False:
            return None
        tool, name = declared.get("tool", {}).get("poetry", {}), declared.get("project", {}).get("name")
        if "poetry" in declared.get("tool", {}) and "packages" not in tool:
            module = re.sub(r"[-.]+", "_", str(tool.get("name") or name or ""))
            places = [f"{folder}{module}{end}" for folder in ("", "src/") for end in ("", ".py")]
            if not any((self._release / place / item).exists() for item in places):
                return None  # a template's lines: there is nothing that could be installed
        return place or "."

    def _build_constraints(self) -> list[str]:
        """The options by which what builds need is pinned, as for uv's own lock file."""
        declared = source.project(self._release, self._work.directory).get("tool", {}).get("uv", {})
        lines = []
        for item in declared.get(lockfile.BUILD_REQUIREMENTS, []):
            table = item if isinstance(item, dict) else {"requirement": str(item)}
            lines.append(
                " ".join([str(table.get("requirement")), *(f"--hash={one}" for one in table.get("hashes", []))])
            )
        options = []
        if lines:
            place = Path(self._place()).with_suffix(".build")
            place.write_text("".join(f"{line}\n" for line in lines))
            options = [f"--build-constraints={place}"]
        hashed = any("--hash=" in line for line in lines)
        if hashed or (self._work.build_packages and not self._work.allow_unpinned):
            options += ["--preview-features=build-dependency-hashes", "--require-build-hashes"]
        return options

    def _check_complete(self) -> None:
        """FailedError when something that a package needs is in no line of the file."""
        done = self._run(["pip", "check"])
        if match := _MISSING.search(done.stderr + done.stdout):
            raise FailedError(
                f"{self._lock} has {match[1]}, and not {match[2]}, which that needs. {locks.cure(self._lock)}"
            )

    # The Python

    def _markers(self) -> dict[str, str]:
        done = process.run([self._work.python, "-I", "-S", "-c", markers.PROGRAM], user=self._work.user)
        if done.returncode != 0:
            raise FailedError(
                f"{self._work.python}, the Python of {self._work.app}, does not run on this host. Run site.yml, or set "
                f"apps.{self._work.app}.python to one that is there."
            )
        found: dict[str, str] = json.loads(done.stdout)
        return found

    def _check_python(self, listing: Callable[[Mapping[str, str]], Plan], environment: Mapping[str, str]) -> None:
        try:
            problem = compat.problem(self._work.app, self._lock, listing, environment, self._work.build_packages)
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            return  # uv says better what is wrong
        if problem:
            raise FailedError(problem)

    def _other_python(self, plan: Plan) -> str:
        """Which Python everything has a wheel for, asked of the index; "" when none is found."""
        for minor in _CANDIDATES:
            command = ["pip", "compile", "--no-deps", "--only-binary=:all:", "--python-version", minor, self._place()]
            if self._run(command, self._indexes(plan)).returncode == 0:
                return minor
        return ""

    # uv

    def _make_virtualenv(self) -> None:
        self._uv(["venv", "--relocatable", "--no-project", str(self._release / ".venv")], "The virtualenv")

    def _indexes(self, plan: Plan) -> dict[str, str]:
        """The indexes of a lock file as variables, as an address may have a password, and arguments can be read."""
        found = [(name, url) for name, url in plan.indexes if url.rstrip("/") not in _PYPI]
        variables: dict[str, str] = {}
        if found and plan.instead and plan.indexes[0] == found[0]:
            variables["UV_DEFAULT_INDEX"] = found.pop(0)[1]
        if found:
            variables["UV_INDEX"] = " ".join(f"{name}={url}" if _is_name(name) else url for name, url in found)
        # The hashes say which file it is, wherever that comes from.
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
        for name, value in self._work.build_env.items():
            if match := re.fullmatch(r"POETRY_HTTP_BASIC_(\w+)_(USERNAME|PASSWORD)", name):
                variables[f"UV_INDEX_{match[1]}_{match[2]}"] = value
        return variables

    def _uv(
        self,
        command: Sequence[str],
        what: str,
        *,
        variables: Mapping[str, str] | None = None,
        hint: Callable[[], str] | None = None,
    ) -> str:
        """The output of a command of uv; FailedError, in a sentence where it can be told, when it fails."""
        result = self._run(command, variables)
        if result.returncode == 0:
            return result.stdout
        reason = explain.sentence(result.stderr) or explain.gist(result.stderr)
        detail = "" if explain.asks_git(result.stderr) else process.tail(result.stderr)
        if hint and "has no wheel" in reason and (minor := hint()):
            reason += f' All has wheels for Python {minor}: set apps.{self._work.app}.python to "{minor}".'
        if "is not pinned with a hash" in reason and locks.kind(self._lock) != locks.UV:
            reason += f" Or set apps.{self._work.app}.allow_unpinned to true."
        raise FailedError(f"{what} failed: {reason}" if reason else f"{what} failed.", detail)

    def _run(
        self, command: Sequence[str], variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return process.run(
            [self._work.uv, "--no-progress", "--quiet", *command],
            user=self._work.user,
            environment={**self._environment, **(variables or {}), **self._work.build_env, **self._target(command)},
            directory=self._release / self._work.directory,  # where uv finds the project, and a workspace above it
        )

    def _target(self, command: Sequence[str]) -> dict[str, str]:
        """The Python whose packages a command changes or looks at: the release's own, and never the host's."""
        changes = command[:2] in (["pip", "sync"], ["pip", "check"])
        return {"UV_PYTHON": str(self._release / ".venv/bin/python") if changes else self._work.python}

    # Files

    def _has(self, path: str) -> bool:
        return (self._release / path).is_file()

    def _text(self, path: str) -> str:
        return files.read_text(self._release / path, inside=self._release)

    def _place(self) -> str:
        return str(self._room / "packages.txt")

    def _list(self, text: str) -> None:
        Path(self._place()).write_text(text)


def _is_here(path: str) -> bool:
    return path == _HERE or path.startswith(f"{_HERE}/")


def _is_name(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_-]+", name) is not None
