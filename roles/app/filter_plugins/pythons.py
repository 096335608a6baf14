"""The Python of an app: where it is on the host, and what site.yml has to download for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

HOST = "/usr/bin/python3"
PROVIDED = "/opt/slipway/python"
_VERSION = re.compile(r"3\.\d{1,2}(\.\d{1,3})?")
_PATH = re.compile(r"(/[A-Za-z0-9._@+-]+)+")
_HIDDEN = ("/home/", "/root/", "/tmp/", "/run/", "/srv/")  # noqa: S108  # of the sandbox, or of the apps
_SHA256 = re.compile(r"[0-9a-f]{64}")

Values = Mapping[str, Any]


def path(settings: Values, uv: str) -> str:
    """The path of an app's Python on its host; `uv` is the version of uv, which decides what 3.12 is."""
    wanted = str(settings["python"])
    if not wanted:
        return HOST
    return wanted if wanted.startswith("/") else f"{PROVIDED}/{_directory(settings, uv)}/bin/python3"


def provided(apps: Mapping[str, Values], uv: str = "") -> list[dict[str, str]]:
    """The Pythons that a host gets for its apps, each one once: version, directory, mirror and sha256."""
    found = {
        _directory(settings, uv): {
            "version": str(settings["python"]),
            "directory": f"{PROVIDED}/{_directory(settings, uv)}",
            "mirror": str(settings["python_mirror"]),
            "sha256": str(settings["python_sha256"]),
        }
        for settings in apps.values()
        if _VERSION.fullmatch(str(settings["python"]))
    }
    return [found[name] for name in sorted(found)]


def _directory(settings: Values, uv: str) -> str:
    """A name for what is downloaded: another download has another name, so that no release loses its Python."""
    version = str(settings["python"])
    if settings["python_sha256"]:
        return f"{version}-{settings['python_sha256'][:12]}"
    return version if version.count(".") > 1 else f"{version}-uv{uv}"


def faults(name: str, settings: Values) -> Iterator[str]:
    """What is wrong with the Python of an app, a sentence each."""
    where, wanted = f"apps.{name}.python", str(settings["python"])
    mirror, sha256 = str(settings["python_mirror"]), str(settings["python_sha256"])
    if wanted.startswith("/"):
        if not _PATH.fullmatch(wanted) or ".." in wanted.split("/") or wanted.startswith(_HIDDEN):
            yield (
                f"{where} is '{wanted}', but must be the path of a Python that others than root cannot change and the "
                "app can see, such as /usr/local/bin/python3.12, and none below /home, /root, /tmp, /run or /srv."
            )
    elif wanted and not _VERSION.fullmatch(wanted):
        yield f'{where} is "{wanted}", but must be a version in quotes, such as "3.12" or "3.12.7", or a whole path.'
    for setting, value in (("python_mirror", mirror), ("python_sha256", sha256)):
        if value and not _VERSION.fullmatch(wanted):
            yield f'apps.{name}.{setting} is set, but {where} is no version. Set it to one, such as "3.12".'
    if sha256 and not _SHA256.fullmatch(sha256):
        yield f"apps.{name}.python_sha256 is '{sha256}', but must be 64 digits of 0-9 and a-f."
    if sha256 and not mirror:
        yield f"apps.{name}.python_sha256 is set, but python_mirror is not. Set it to the URL of the archive."
    if mirror and not re.match(r"(https?|file)://", mirror):
        yield f"apps.{name}.python_mirror must begin with https://, http:// or file://."
    elif re.match(r"https?://[^/]*@", mirror):
        yield f"apps.{name}.python_mirror has a user or a password in it, which the log would show. Use a URL without."
    elif re.search(r"\s", mirror):
        yield f"apps.{name}.python_mirror has a blank in it. Write the URL without one."
    elif mirror.startswith(("http:", "file:")) and not sha256:
        yield f"apps.{name}.python_mirror is no https URL, so python_sha256 has to say what the archive is. Set it."


class FilterModule:
    """Makes them known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"app_python": path, "app_pythons": provided}
