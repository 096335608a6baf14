"""Files of a release, which Nginx serves itself: by the link that a deploy moves, without a reload."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from . import edge as edges
from .edge import NAME, Edge

STATIC = {"/static/": "web/static/", "/favicon.ico": "web/icon.ico"}
HASHED = "index-4f9a1c2e.js"
FOR_LONG = "max-age=31536000, immutable"


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    """v1 was live in blue before v2 is live in green."""
    released(tmp_path, "v1", {"static/style.css": "old", f"static/{HASHED}": "old", "icon.ico": "old icon"})
    released(tmp_path, "v2", {"static/style.css": "new style", "static/big.bin": "0123456789" * 300})
    root = tmp_path / "srv"
    for slot, release in (("blue", "v1"), ("green", "v2")):
        (root / "slots" / slot).mkdir(parents=True)
        (root / f"slots/{slot}/release").symlink_to(f"../../releases/{release}")
    (root / "live").symlink_to("slots/green")
    with edges.running(tmp_path, {"static": STATIC}, host="127.0.0.9") as made:
        yield made


def released(directory: Path, name: str, files: dict[str, str]) -> None:
    for path, content in files.items():
        place = directory / "srv/releases" / name / "web" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)


def test_what_the_live_release_has_is_served_without_the_app(edge: Edge) -> None:
    found = edge.get("/static/style.css")
    assert (found.status, found.body, found.one("content-type")) == (200, b"new style", "text/css")
    assert found.one("cache-control") == "max-age=60"
    assert found.one("x-content-type-options") == "nosniff"
    assert found.one("strict-transport-security")
    assert found.one("x-request-id")
    assert edge.app.requests == []


def test_what_only_the_release_before_had_is_still_there(edge: Edge) -> None:
    found = edge.get(f"/static/{HASHED}?v=1")
    assert (found.status, found.body, found.one("cache-control")) == (200, b"old", FOR_LONG)
    assert edge.get("/favicon.ico").body == b"old icon"
    assert edge.app.requests == []


def test_a_switch_needs_no_reload(edge: Edge, tmp_path: Path) -> None:
    assert edge.get("/static/style.css").body == b"new style"
    link = tmp_path / "srv/next"
    link.symlink_to("slots/blue")
    link.rename(tmp_path / "srv/live")
    assert edge.get("/static/style.css").body == b"old"
    assert edge.get("/static/big.bin").status == 200


@pytest.mark.parametrize(
    ("name", "age"),
    [
        ("main.8e2a1b3c.css", FOR_LONG),
        ("index-BkR3xYz1.js", FOR_LONG),
        ("base.27e20196a850.min.css", FOR_LONG),
        ("base.27e20196a850.css", FOR_LONG),
        ("report-20241231.pdf", "max-age=60"),
        ("jquery-3.7.1.min.js", "max-age=60"),
        ("fallback-facade-deadbeef.js", "max-age=60"),
    ],
)
def test_only_what_has_a_digest_in_its_name_is_kept_for_long(edge: Edge, tmp_path: Path, name: str, age: str) -> None:
    released(tmp_path, "v2", {f"static/{name}": "x"})
    assert edge.get(f"/static/{name}").one("cache-control") == age


def test_head_ranges_and_conditions(edge: Edge) -> None:
    whole = edge.get("/static/big.bin", method="HEAD")
    assert (whole.status, whole.one("content-length"), whole.body) == (200, "3000", b"")
    part = edge.get("/static/big.bin", "Range: bytes=5-9")
    assert (part.status, part.body, part.one("content-range")) == (206, b"56789", "bytes 5-9/3000")
    assert edge.get("/static/big.bin", f"If-None-Match: {whole.one('etag')}").status == 304
    assert edge.get("/static/big.bin", "Range: bytes=9000-").status == 416  # Nginx sends its headers twice then
    assert edge.app.requests == []


def test_http_2(edge: Edge) -> None:
    context = ssl.create_default_context(cafile=edge.directory / "fullchain.pem")
    with httpx.Client(http2=True, verify=context, trust_env=False) as client:
        url = f"https://127.0.0.1:{edge.https}/static/style.css"
        found = client.get(url, headers={"Host": NAME}, extensions={"sni_hostname": NAME})
    assert (found.http_version, found.status_code, found.text) == ("HTTP/2", 200, "new style")


@pytest.mark.parametrize(
    "target", ["/static/", "/static/folder/", "/static/folder", "/static/none.css", "/static", "/web/static/style.css"]
)
def test_what_is_no_file_there_is_the_apps(edge: Edge, tmp_path: Path, target: str) -> None:
    released(tmp_path, "v2", {"static/folder/file.txt": "x", "static/folder/index.html": "x"})
    found = edge.get(target)
    assert (found.status, found.body, found.one("cache-control")) == (200, b"ok", "")
    assert edge.app.requests[0].startswith(f"GET {target} ".encode())


@pytest.mark.parametrize("target", ["/static/.env", "/static/.git/config", "/static/a/.hidden/b.css"])
def test_hidden_names_are_not_served(edge: Edge, tmp_path: Path, target: str) -> None:
    released(tmp_path, "v2", {target.removeprefix("/"): "hidden"})
    assert edge.get(target).body == b"ok"


@pytest.mark.parametrize("target", ["/static/%2e%2e/main.py", "/static/../main.py", "/static/%252e%252e/main.py"])
def test_no_way_leads_out_of_the_directory(edge: Edge, tmp_path: Path, target: str) -> None:
    released(tmp_path, "v2", {"main.py": "source"})
    assert edge.get(target).status == 400
    assert edge.app.requests == []


@pytest.mark.parametrize("link", ["passwd", "source.py", "folder/main.py"])
def test_no_link_is_followed(edge: Edge, tmp_path: Path, link: str) -> None:
    """Neither out of the release, nor to its source, nor through a directory that is one."""
    released(tmp_path, "v2", {"main.py": "source"})
    static = tmp_path / "srv/releases/v2/web/static"
    (static / "passwd").symlink_to("/etc/passwd")
    (static / "source.py").symlink_to("../main.py")
    (static / "folder").symlink_to("..")
    assert (static / link).exists()
    assert edge.get(f"/static/{link}").body == b"ok"


def test_maintenance_closes_them_and_a_hold_does_not(edge: Edge) -> None:
    held, closed = (edge.directory / f"maintenance/logbook.{ending}" for ending in ("hold", "on"))
    held.touch()
    assert edge.get("/static/style.css").status == 200
    assert edge.get("/static/none.css").status >= 502, "what is the app's would wait, but nothing holds it here"
    closed.touch()
    assert edge.get("/static/style.css", "Accept: application/json").status == 503


def test_a_password_is_asked_for_here_too(tmp_path: Path) -> None:
    released(tmp_path, "v1", {"static/style.css": "x"})
    (tmp_path / "srv/live").symlink_to(".")
    (tmp_path / "srv/release").symlink_to("releases/v1")
    (tmp_path / "passwords").write_text("alice:$6$x$y\n")
    settings = {"static": STATIC, "basic_auth": ["alice:$6$x$y"]}
    with edges.running(tmp_path, settings, host="127.0.0.9") as edge:
        assert edge.get("/static/style.css").status == 401
        assert edge.app.requests == []


def test_a_method_that_no_file_has_is_refused(edge: Edge) -> None:
    assert edge.get("/static/style.css", method="POST", body=b"x").status == 405
    assert edge.get("/static/upload", method="POST", body=b"x").status == 200
