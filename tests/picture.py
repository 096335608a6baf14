"""Chromium before a site whose own authority signed its certificate, and the picture of the demo's Logbook in docs/.

`python -m tests.picture` makes that picture of a demo that is up, with its own deploys; `make demo` says how to come to
some.
"""

from __future__ import annotations

import base64
import hashlib
import os
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, expect, sync_playwright

from hosts import chromium, demo, scratch
from hosts.container_runtime import say

PICTURE = scratch.PROJECT / "docs/logbook.png"
WIDTH = 1280  # pixels, of the picture and of the window


@contextmanager
def browser(url: str, ca: Path) -> Iterator[Browser]:
    """Chromium that takes the certificate which `url` shows now, once the authority in `ca` has vouched for it.

    It has no other way to be told of an authority than to change what the person who runs this trusts.
    """
    program = chromium.program()
    if program is None:
        raise FileNotFoundError("This wants Chromium: apt-get install chromium, or python -m hosts products chromium.")
    arguments = [f"--ignore-certificate-errors-spki-list={_pin(url, ca)}"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # which root may not have
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=arguments)
        yield launched
        launched.close()


def picture(url: str, ca: Path, path: Path) -> None:
    """All of a Logbook's public page as a PNG: 1280 pixels wide, light."""
    with browser(url, ca) as opened:
        page = opened.new_page(viewport={"width": WIDTH, "height": 800}, color_scheme="light", reduced_motion="reduce")
        page.goto(url)
        expect(page.get_by_role("heading", name="Timeline")).to_be_visible()
        page.screenshot(path=path, full_page=True)


def _pin(url: str, ca: Path) -> str:
    """The digest of the site's public key; ssl.SSLError when its certificate is not the authority's."""
    site = urlsplit(url)
    shown = ssl.get_server_certificate((site.hostname or "", site.port or 443), ca_certs=str(ca), timeout=10)
    key = x509.load_pem_x509_certificate(shown.encode()).public_key()
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    return base64.b64encode(digest).decode()


if __name__ == "__main__":
    try:
        picture(f"https://127.0.0.1:{demo.HTTPS_PORT}/", demo.STATE / "ca.crt", PICTURE)
    except OSError as error:
        sys.exit(f"{error}\nIs the demo up? make demo")
    say(f"{PICTURE.relative_to(scratch.PROJECT)}: {PICTURE.stat().st_size // 1000} kB")
