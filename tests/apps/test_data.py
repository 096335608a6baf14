"""What outlives a release: files, rows, keys, old assets; and what is kept apart."""

from __future__ import annotations

import socket

import websockets.sync.client

from . import shapes
from .site import Environment


def test_data_is_kept_over_a_deploy_and_a_rollback(prod: Environment) -> None:
    app = prod.of("album")
    before, after = app.live(), app.other()
    assert app.ask("/files/first.txt").text.strip() == "what comes with the repository"
    app.ask("/files/mine", "PUT", 201, content=b"old")
    count = app.ask().json()["count"]
    prod.deploy("album", after)
    assert app.ask("/files/mine").content == b"old"
    app.ask("/files/mine", "PUT", 201, content=b"new")
    prod.roll_back("album")
    assert app.live() == before
    assert app.ask("/files/mine").content == b"new"
    assert app.ask().json()["count"] == count + 1


def test_an_old_static_file_is_still_served(prod: Environment) -> None:
    app = prod.of("notices")
    if app.live() != shapes.FIRST:
        prod.deploy("notices", shapes.FIRST)
    assert app.ask().json()["style"] == "/assets/site.1111.css"
    first = app.ask("/assets/site.1111.css")
    prod.deploy("notices", shapes.SECOND)
    assert app.ask().json()["style"] == "/assets/site.2222.css"
    assert "red" in app.ask("/assets/site.2222.css").text
    # A page that was loaded before the deploy asks for it.
    old = app.ask("/assets/site.1111.css")
    assert old.text == first.text
    assert old.headers["content-type"] == "text/css"
    assert "max-age" in old.headers["cache-control"]
    assert "x-release" not in old.headers
    app.ask("/assets/none.css", expected=404)


def test_commands_after_migrating_ran_once_a_deploy(prod: Environment) -> None:
    app = prod.of("notices")
    assert app.ask().json()["welcome"] == "Welcome"
    seeded = len(app.ask().json()["seeded"])
    after = app.other()
    prod.deploy("notices", after)
    assert app.ask().json()["seeded"][seeded:] == [after]


def test_the_keys_of_two_apps_are_apart(prod: Environment) -> None:
    chat, ticker = prod.of("chat"), prod.of("ticker")
    chat.ask("/", "POST", 201)
    ticker.ask("/", "POST", 201)
    assert "said" in chat.ask().json()["keys"]
    assert "said" not in ticker.ask().json()["keys"]
    assert "first" not in chat.ask().json()["keys"]


def test_websockets_and_streams(prod: Environment) -> None:
    app = prod.of("chat")
    address = f"wss://{app.domain}/room"

    def connect() -> websockets.sync.client.ClientConnection:
        raw = socket.create_connection(("127.0.0.1", prod.port(443)))
        return websockets.sync.client.connect(address, sock=raw, ssl=app.trust(), server_hostname=app.domain)

    with connect() as one, connect() as two:
        assert one.recv(5) == two.recv(5) == f"hello from {app.live()}"
        one.send("good morning")
        assert one.recv(5) == two.recv(5) == "good morning"
        # A deploy leaves the connection to the release before it open, until drain_seconds are over.
        before = app.live()
        prod.deploy("chat", app.other())
        with connect() as three:
            assert three.recv(5) == f"hello from {app.live()}"
            assert app.live() != before
    with app.client() as client, client.stream("GET", "/numbers", params={"count": 5}) as answer:
        parts = list(answer.iter_raw())
    assert len(parts) > 2, "the stream was collected before it was passed on"
