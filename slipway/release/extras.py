"""What a release gets beside its source and its packages: files from elsewhere, and what commands of the app make."""

from __future__ import annotations

import hashlib
import http.client
import shlex
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from slipway.base import process
from slipway.base.errors import FailedError
from slipway.release.work import Work

_PATIENCE = 60.0  # seconds without a byte
_PART = 2**20


def fetch(work: Work, release: Path) -> None:
    """Put each artefact in its place; FailedError when it cannot be had, or is not the one of its digest."""
    top = release.resolve()
    for item in work.artefacts:
        place = release / work.directory / item["path"]
        shown = f"{urlsplit(item['url']).hostname} ({item['path']})"  # the rest of a URL may be a secret
        if not place.parent.resolve().is_relative_to(top) or place.is_symlink():
            raise FailedError(f"apps.{work.app}.artefacts: {item['path']} leads out of the release.")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            digest = _download(item["url"], place, work.build_env)
        except (OSError, ValueError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # it is an answer, too
            why = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
            raise FailedError(f"apps.{work.app}.artefacts: {shown} cannot be downloaded ({why}).") from None
        if digest != item["sha256"]:
            raise FailedError(
                f"apps.{work.app}.artefacts: what {shown} answers has the SHA-256 digest {digest}, and not "
                f"{item['sha256']}. If it is meant to be another file, change its sha256."
            )


def _download(url: str, place: Path, variables: Mapping[str, str]) -> str:
    context = ssl.create_default_context(cafile=variables.get("SSL_CERT_FILE"))
    proxies = {
        name.lower().removesuffix("_proxy"): url for name, url in variables.items() if name.lower().endswith("_proxy")
    }
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context),
        *([urllib.request.ProxyHandler(proxies)] if proxies else []),
    )
    digest = hashlib.sha256()
    with opener.open(url, timeout=_PATIENCE) as answer, place.open("wb") as file:
        while part := answer.read(_PART):
            digest.update(part)
            file.write(part)
    return digest.hexdigest()


def run(work: Work, release: Path, told: Mapping[str, str]) -> None:
    """Run the commands of the app's build; FailedError when one cannot be found or fails."""
    path = f"{release / '.venv/bin'}:{process.PATH}"
    directory = release / work.directory
    for command in work.commands:
        words = shlex.split(command)
        if shutil.which(words[0] if "/" not in words[0] else str(directory / words[0]), path=path) is None:
            raise FailedError(
                f"apps.{work.app}.build: neither the release nor this host has a program '{words[0]}'. Add its package "
                f"of Debian to apps.{work.app}.packages and run site.yml, or the package to the lock file."
            )
        result = process.run(
            ["env", f"PATH={path}", *words],
            user=work.user,
            environment={
                "HOME": work.cache,
                "CI": "true",
                "VIRTUAL_ENV": str(release / ".venv"),
                **told,
                **work.build_env,
            },
            directory=directory,
        )
        if result.returncode != 0:
            said = process.tail(f"{result.stdout}\n{result.stderr}")
            raise FailedError(f"apps.{work.app}.build: '{command}' failed with exit code {result.returncode}.", said)
