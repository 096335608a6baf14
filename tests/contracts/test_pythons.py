"""The Pythons of apps: which one is where, which declarations are refused, and how one is provided, from a mirror."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from filter_plugins import apps
from roles.app.filter_plugins import app_settings, pythons

PROJECT = Path(__file__).resolve().parents[2]
SHA = "a" * 64
ARCHIVE = "https://mirror.example.com/python.tar.gz"


def settings(**changes: Any) -> dict[str, Any]:
    return app_settings.complete({"domains": ["a.example.com"], "repository": ".", **changes})


@pytest.mark.parametrize(
    ("declared", "path"),
    [
        ({}, "/usr/bin/python3"),
        ({"python": "3.12"}, "/opt/slipway/python/3.12-uv0.1/bin/python3"),
        ({"python": "3.12.7"}, "/opt/slipway/python/3.12.7/bin/python3"),
        (
            {"python": "3.12", "python_mirror": ARCHIVE, "python_sha256": SHA},
            f"/opt/slipway/python/3.12-{SHA[:12]}/bin/python3",
        ),
        ({"python": "/usr/local/bin/python3.12"}, "/usr/local/bin/python3.12"),
    ],
)
def test_where_the_python_of_an_app_is(declared: dict[str, Any], path: str) -> None:
    assert pythons.path(settings(**declared), "0.1") == path
    assert not list(pythons.faults("shop", settings(**declared)))


def test_a_host_gets_each_python_once() -> None:
    several = {
        "a": settings(python="3.12"),
        "b": settings(python="3.12"),
        "c": settings(),
        "d": settings(python="/opt/p"),
    }
    assert [item["directory"] for item in pythons.provided(several, "0.1")] == ["/opt/slipway/python/3.12-uv0.1"]
    assert pythons.provided({"c": settings()}, "0.1") == []


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"python": "python3.12"}, 'apps.shop.python is "python3.12", but must be a version in quotes'),
        ({"python": "2.7"}, "must be a version in quotes"),
        ({"python": "/home/me/bin/python"}, "none below /home"),
        ({"python": "/usr/../home/python"}, "must be the path of a Python"),
        ({"python": "3.12", "python_sha256": SHA}, "python_mirror is not. Set it to the URL of the archive"),
        ({"python": "3.12", "python_mirror": ARCHIVE, "python_sha256": "abc"}, "must be 64 digits"),
        ({"python": "3.12", "python_mirror": "ftp://x/y"}, "must begin with https://"),
        ({"python": "3.12", "python_mirror": "http://x/y"}, "python_sha256 has to say what the archive is"),
        ({"python": "3.12", "python_mirror": "https://u:p@x/y"}, "python_mirror has a user or a password in it"),
        ({"python": "3.12", "python_mirror": "https://x/y z"}, "python_mirror has a blank in it"),
        ({"python_mirror": ARCHIVE}, "apps.shop.python is no version"),
    ],
)
def test_a_wrong_python_is_named(declared: dict[str, Any], says: str) -> None:
    assert says in " ".join(pythons.faults("shop", settings(**declared)))


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"packages": ["npm;reboot"]}, "apps.shop.packages has 'npm;reboot'"),
        ({"build": ["npm 'run"]}, "apps.shop.build is"),
        ({"artefacts": [{"url": "https://x/y", "path": "z"}]}, "apps.shop.artefacts is"),
        ({"artefacts": [{"url": "https://x/y", "path": "../z", "sha256": SHA}]}, "apps.shop.artefacts is"),
        ({"lock": "/etc/passwd"}, "apps.shop.lock is '/etc/passwd'"),
        ({"extras": ["a b"]}, "apps.shop.extras is"),
        ({"groups": [""]}, "apps.shop.groups is"),
        ({"directory": "../x"}, "apps.shop.directory is '../x'"),
    ],
)
def test_what_a_build_is_told_wrongly_is_named(declared: dict[str, Any], says: str) -> None:
    found = " ".join(
        app_settings.faults(settings(**declared), "shop", "prod", {"DATABASE_URL": "x", "SECRET_KEY": "x"})
    )
    assert says in found


def test_a_host_gets_the_packages_of_all_apps() -> None:
    several = {"a": settings(packages=["npm", "libldap-dev"]), "b": settings(packages=["npm"]), "c": settings()}
    assert apps.packages(several) == ["libldap-dev", "npm"]


# What is downloaded


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """An archive with the Python that runs the tests, as one of python-build-standalone is: its digest and version."""
    place = tmp_path_factory.mktemp("mirror")
    made = place / "python"
    version = "{}.{}.{}".format(*sys.version_info)
    minor = version.rpartition(".")[0]
    (made / "bin").mkdir(parents=True)
    (made / "lib").mkdir()
    base = Path(sys.base_prefix)
    subprocess.run(["cp", "--dereference", base / f"bin/python{minor}", made / f"bin/python{minor}"], check=True)
    (made / "bin/python3").symlink_to(f"python{minor}")
    library = Path(sysconfig.get_path("stdlib"))
    left_out = [f"--exclude={name}" for name in ("test", "site-packages", "config-*", "idlelib", "__pycache__")]
    subprocess.run(["tar", "-cf", place / "lib.tar", *left_out, "-C", library.parent, library.name], check=True)
    subprocess.run(["tar", "-xf", place / "lib.tar", "-C", made / "lib"], check=True)
    target = place / "python.tar.gz"
    subprocess.run(
        ["tar", "-czf", target, "-C", place, "python"], check=True, env={"GZIP": "-1", "PATH": "/usr/bin:/bin"}
    )
    return target, hashlib.sha256(target.read_bytes()).hexdigest(), version


def provide(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = PROJECT / "roles/app/files/python.sh"
    command = ["sh", str(script), arguments[0], arguments[1], str(directory), *arguments[2:]]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_a_python_from_a_mirror_is_there_as_a_whole(archive: tuple[Path, str, str], tmp_path: Path) -> None:
    file, digest, version = archive
    directory = tmp_path / "python/it"
    done = provide(directory, "uv", version.rpartition(".")[0], file.as_uri(), digest)
    assert done.returncode == 0, done.stderr
    uv = PROJECT / ".tools/bin/uv"
    venv = tmp_path / "venv"
    command = [uv, "venv", "--quiet", "--no-project", "--relocatable", "--python", directory / "bin/python3", venv]
    subprocess.run(list(map(str, command)), check=True)
    program = "import ssl, sqlite3, sys; print(sys.base_prefix)"
    said = subprocess.run([venv / "bin/python", "-I", "-c", program], check=True, capture_output=True, text=True)
    assert said.stdout.strip() == str(directory)
    assert [path.name for path in directory.parent.iterdir()] == ["it"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "digest", "says"),
    [
        ("3", "0" * 64, "and not 000"),
        ("3.2", "", "and not 3.2"),
    ],
)
def test_another_archive_than_the_meant_one_is_not_used(
    archive: tuple[Path, str, str], tmp_path: Path, version: str, digest: str, says: str
) -> None:
    done = provide(tmp_path / "python/it", "uv", version, archive[0].as_uri(), digest or archive[1])
    assert done.returncode == 1
    assert says in done.stderr
    assert list((tmp_path / "python").iterdir()) == []


def test_without_a_digest_uv_provides_it_and_checks_what_it_is(tmp_path: Path) -> None:
    """With a uv that does as the real one: GitHub is out of reach of most machines that test this."""
    uv = tmp_path / "uv"
    uv.write_text(
        '#!/bin/sh\necho "$@" > "$(dirname "$0")/said"\n'
        'while test "$1" != --install-dir; do shift; done\n'
        'mkdir -p "$2/cpython-3.11.9-linux/bin"\n'
        'printf "#!/bin/sh\\necho 3.11.9\\n" > "$2/cpython-3.11.9-linux/bin/python3"\n'
        'chmod +x "$2/cpython-3.11.9-linux/bin/python3"\n'
    )
    uv.chmod(0o755)
    directory = tmp_path / "python/3.11-uv1"
    done = provide(directory, str(uv), "3.11", "https://mirror.example.com/x", "")
    assert done.returncode == 0, done.stderr
    assert (directory / "bin/python3").resolve().parts[-3] == "cpython-3.11.9-linux"
    assert "--mirror https://mirror.example.com/x 3.11" in (tmp_path / "said").read_text()
    assert provide(directory, str(uv), "3.11", "", "").returncode == 0  # again, after it was taken away in part


def test_the_hosts_own_python_is_not_downloaded(tmp_path: Path) -> None:
    """As with "3.13" on Debian 13: uv, which is none here, is not asked."""
    own = Path("/usr/bin/python3").resolve().name.removeprefix("python")
    directory = tmp_path / "python/it"
    done = provide(directory, "/nonexistent", own, "", "")
    assert done.returncode == 0, done.stderr
    assert (directory / "bin/python3").resolve() == Path("/usr/bin/python3").resolve()


def test_what_cannot_be_downloaded_is_told_with_the_reason(tmp_path: Path) -> None:
    uv = tmp_path / "uv"
    uv.write_text('#!/bin/sh\ncase "$*" in *--quiet*) ;; *) echo "error: no route to it" >&2 ;; esac\nexit 1\n')
    uv.chmod(0o755)
    done = provide(tmp_path / "python/it", str(uv), "3.8", "", "")
    assert done.returncode == 1
    assert "no route to it" in done.stderr
    assert "needs python_mirror" in done.stderr
    assert list((tmp_path / "python").iterdir()) == []
