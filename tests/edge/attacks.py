"""Requests that are malformed, or that two readers could understand in two ways, as bytes of HTTP/1 and HTTP/2.

The same ones are sent to Nginx of this machine (tests/edge) and to a provisioned host (tests/attacks).
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Iterable

from hpack import Decoder, Encoder
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame, RstStreamFrame, SettingsFrame

Header = tuple[str, str]

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n"
LENGTH = str(len(SMUGGLED)).encode()


def _get(*lines: bytes, target: bytes = b"/", version: bytes = b"HTTP/1.1", host: bytes = b"Host: HOST") -> bytes:
    head = [b"GET " + target + b" " + version, *([host] if host else []), b"Connection: close", *lines]
    return b"\r\n".join([*head, b"", b""])


def _post(*lines: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    head = [b"POST / " + version, b"Host: HOST", b"Connection: close", *lines]
    return b"\r\n".join([*head, b"", b""]) + body


# HOST stands for the name (and port) of the site. A b"" in the name is for the eye only.
HTTP1: dict[str, bytes] = {
    # The length of the body, said twice or in another way
    "length and chunked": _post(b"Content-Length: 6", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "chunked and length": _post(b"Transfer-Encoding: chunked", b"Content-Length: 6", body=b"0\r\n\r\n" + SMUGGLED),
    "two lengths": _post(b"Content-Length: 0", b"Content-Length: " + LENGTH, body=SMUGGLED),
    "two equal lengths": _post(b"Content-Length: 1", b"Content-Length: 1", body=b"x"),
    "lengths in a list": _post(b"Content-Length: 0, " + LENGTH, body=SMUGGLED),
    "length +1": _post(b"Content-Length: +" + LENGTH, body=SMUGGLED),
    "length -1": _post(b"Content-Length: -1", body=SMUGGLED),
    "length 0x": _post(b"Content-Length: 0x" + LENGTH, body=SMUGGLED),
    "length with a space": _post(b"Content-Length: 1 0", body=SMUGGLED),
    "length empty": _post(b"Content-Length: ", body=SMUGGLED),
    "length beyond 64 bits": _post(b"Content-Length: 18446744073709551617", body=b"x"),
    "length with a tab before the colon": _post(b"Content-Length\t: " + LENGTH, body=SMUGGLED),
    "length with a space before the colon": _post(b"Content-Length : " + LENGTH, body=SMUGGLED),
    "length with a sign of its own name": _post(b"Content_Length: " + LENGTH, body=SMUGGLED),
    "length folded": _post(b"Content-Length:\r\n " + LENGTH, body=SMUGGLED),
    "length with form feed": _post(b"Content-Length: \x0c" + LENGTH, body=SMUGGLED),
    "body of GET": _get(b"Content-Length: " + LENGTH) + SMUGGLED,
    "encoding unknown": _post(b"Transfer-Encoding: x", body=b"0\r\n\r\n"),
    "encoding identity": _post(b"Transfer-Encoding: identity", b"Content-Length: " + LENGTH, body=SMUGGLED),
    "encoding gzip, chunked": _post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "encoding chunked, chunked": _post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "encoding twice": _post(
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n" + SMUGGLED
    ),
    "encoding xchunked": _post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "encoding in quotes": _post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"),
    "encoding with vertical tab": _post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"),
    "encoding with a space before the colon": _post(
        b"Transfer-Encoding : chunked", b"Content-Length: 5", body=b"0\r\n\r\n" + SMUGGLED
    ),
    "encoding by another name": _post(b"Transfer_Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "encoding behind a bare LF": _post(b"X: y\nTransfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "encoding behind a bare CR": _post(b"X: y\rTransfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "encoding folded": _post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "encoding in HTTP/1.0": _post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED, version=b"HTTP/1.0"),
    # Chunks
    "chunk size with 0x": _post(b"Transfer-Encoding: chunked", body=b"0x1\r\nA\r\n0\r\n\r\n"),
    "chunk size with a sign": _post(b"Transfer-Encoding: chunked", body=b"+1\r\nA\r\n0\r\n\r\n"),
    "chunk size negative": _post(b"Transfer-Encoding: chunked", body=b"-1\r\nA\r\n0\r\n\r\n"),
    "chunk size beyond 64 bits": _post(b"Transfer-Encoding: chunked", body=b"10000000000000001\r\nA\r\n0\r\n\r\n"),
    "chunk with a bare LF": _post(b"Transfer-Encoding: chunked", body=b"1\nA\n0\n\n" + SMUGGLED),
    "chunk longer than its size": _post(b"Transfer-Encoding: chunked", body=b"1\r\nAB\r\n0\r\n\r\n"),
    "chunk extension with LF": _post(b"Transfer-Encoding: chunked", body=b"1;a=b\nc\r\nA\r\n0\r\n\r\n" + SMUGGLED),
    "chunk extension long": _post(b"Transfer-Encoding: chunked", body=b"1;" + b"a" * 9000 + b"\r\nA\r\n0\r\n\r\n"),
    "chunk trailers": _post(
        b"Transfer-Encoding: chunked",
        b"Trailer: X-Forwarded-For",
        body=b"1\r\nA\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\nContent-Length: 9\r\n\r\n",
    ),
    "chunks that end in the middle": _post(b"Transfer-Encoding: chunked", body=b"5\r\nAB"),
    # The request line
    "absolute form of another host": _get(target=b"http://evil.example/x"),
    "absolute form and another Host": _get(target=b"https://HOST/x", host=b"Host: evil.example"),
    "absolute form with user": _get(target=b"http://user@HOST/x"),
    "absolute form without path": _get(target=b"http://HOST?x=http://evil.example/"),
    "absolute form of another scheme": _get(target=b"gopher://HOST/x"),
    "authority form": _get(target=b"HOST:443"),
    "CONNECT": b"CONNECT HOST:443 HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
    "TRACE": b"TRACE / HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nCookie: s=1\r\n\r\n",
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
    "target without slash": _get(target=b"x/y"),
    "target empty": b"GET  HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
    "target with a space": _get(target=b"/x y"),
    "target with a tab": _get(target=b"/x\ty"),
    "target with NUL": _get(target=b"/x\x00y"),
    "target with encoded NUL": _get(target=b"/x%00y"),
    "target with CR": _get(target=b"/x\ry"),
    "target with encoded CRLF": _get(target=b"/x%0d%0aX-Evil:%201"),
    "target with half an encoding": _get(target=b"/x%2"),
    "target with a wrong encoding": _get(target=b"/x%zz"),
    "target with %u": _get(target=b"/%u002e%u002e/x"),
    "target in UTF-8": _get(target="/ü".encode()),
    "target in Latin-1": _get(target=b"/\xfc"),
    "target with DEL": _get(target=b"/x\x7f"),
    "target with a fragment": _get(target=b"/x#/../metrics"),
    "target with backslashes": _get(target=b"/x\\..\\metrics"),
    "target with two slashes": _get(target=b"//evil.example/x"),
    "target too long": _get(target=b"/" + b"a" * 70000),
    "version 2.0": _get(version=b"HTTP/2.0"),
    "version 1.2": _get(version=b"HTTP/1.2"),
    "version 1.10": _get(version=b"HTTP/1.10"),
    "version 0.9": b"GET /\r\n",
    "version in lower case": _get(version=b"http/1.1"),
    "version doubled": _get(version=b"HTTP/1.1 HTTP/1.1"),
    "method in lower case": b"get / HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
    "method with a colon": b"GET: / HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
    "method in UTF-8": "GËT / HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n".encode(),
    "method long": b"A" * 9000 + b" / HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
    "no line end": b"GET / HTTP/1.1" + b" " * 200,
    "empty lines first": b"\r\n\r\n" + _get(),
    "line ends of LF": b"GET / HTTP/1.1\nHost: HOST\nConnection: close\n\n",
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    # Host
    "no Host": _get(host=b""),
    "no Host in HTTP/1.0": _get(host=b"", version=b"HTTP/1.0"),
    "two Hosts": _get(b"Host: evil.example"),
    "Host empty": _get(host=b"Host:"),
    "Host of another site": _get(host=b"Host: evil.example"),
    "Host with a port of letters": _get(host=b"Host: HOST:9evil"),
    "Host with another port": _get(host=b"Host: HOST:22"),
    "Host with user": _get(host=b"Host: evil@HOST"),
    "Host with a path": _get(host=b"Host: HOST/evil"),
    "Host with a space": _get(host=b"Host: HOST evil.example"),
    "Host with a comma": _get(host=b"Host: HOST, evil.example"),
    "Host in capitals": _get(host=b"HOST: LOCALHOST"),
    "Host with a dot behind": _get(host=b"Host: HOST."),
    "Host with two dots": _get(host=b"Host: ..HOST"),
    "Host with NUL": _get(host=b"Host: HOST\x00evil.example"),
    "Host folded": _get(host=b"Host:\r\n HOST"),
    "Host behind a space": _get(host=b" Host: HOST"),
    "Host with a space before the colon": _get(host=b"Host : HOST"),
    # Headers
    "header without colon": _get(b"Evil"),
    "header without name": _get(b": evil"),
    "header with a space in its name": _get(b"X Evil: 1"),
    "header with NUL": _get(b"X-Evil: a\x00b"),
    "header with a bare CR": _get(b"X-Evil: a\rX-Forwarded-For: 6.6.6.6"),
    "header folded": _get(b"X-Evil: a\r\n X-Forwarded-For: 6.6.6.6"),
    "header of UTF-8": _get("X-Ëvil: 1".encode()),
    "header of 8 bits": _get(b"X-Evil: \x80\xff"),
    "header of control characters": _get(b"X-Evil: \x01\x02\x1b"),
    "header too long": _get(b"X-Evil: " + b"a" * 17000),
    "headers too many": _get(*[b"X-%d: %s" % (number, b"a" * 50) for number in range(2000)]),
    "header with an underscore": _get(b"X_Forwarded_For: 6.6.6.6", b"X_Real_IP: 6.6.6.6"),
    "header with a dot": _get(b"X.Forwarded.For: 6.6.6.6"),
    "hop by hop": _get(b"Connection: close, X-Forwarded-For, X-Request-ID, Host"),
    "upgrade to h2c": _get(b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
    "upgrade to a WebSocket and to h2c": _get(b"Upgrade: websocket, h2c"),
    "upgrade of a POST": _post(b"Upgrade: websocket", b"Content-Length: " + LENGTH, body=SMUGGLED),
    "expectation unknown": _post(b"Expect: 200-evil", b"Content-Length: 1", body=b"x"),
    "expectation twice": _post(b"Expect: 100-continue", b"Expect: x", b"Content-Length: 1", body=b"x"),
    "range without end": _get(b"Range: bytes=" + b"0-," * 2000 + b"0-"),
    "two requests": _get().replace(b"Connection: close\r\n", b"") + _get(target=b"/second"),
    "request behind a close": _get() + SMUGGLED,
}


def http1(host: str, name: str) -> bytes:
    return HTTP1[name].replace(b"HOST", host.encode())


# HTTP/2: what HTTP/1 has no words for, and what would be something else in it


def _pseudo(*changes: Header, without: Iterable[str] = ()) -> list[Header]:
    changed = dict(changes)
    pseudo = {":method": "GET", ":scheme": "https", ":authority": "HOST", ":path": "/"}
    return [(name, changed.get(name, value)) for name, value in pseudo.items() if name not in without]


HTTP2: dict[str, list[Header]] = {
    "length too small": [*_pseudo((":method", "POST")), ("content-length", "1")],
    "length too large": [*_pseudo((":method", "POST")), ("content-length", "99")],
    "two lengths": [*_pseudo((":method", "POST")), ("content-length", "4"), ("content-length", "0")],
    "encoding chunked": [*_pseudo((":method", "POST")), ("transfer-encoding", "chunked")],
    "encoding in capitals": [*_pseudo((":method", "POST")), ("Transfer-Encoding", "chunked")],
    "connection": [*_pseudo(), ("connection", "x-forwarded-for")],
    "upgrade": [*_pseudo(), ("upgrade", "websocket"), ("connection", "upgrade")],
    "te": [*_pseudo(), ("te", "gzip, chunked")],
    "header with CRLF": [*_pseudo(), ("x-evil", "a\r\nx-forwarded-for: 6.6.6.6")],
    "header with LF": [*_pseudo(), ("x-evil", "a\nx-forwarded-for: 6.6.6.6")],
    "header with NUL": [*_pseudo(), ("x-evil", "a\0b")],
    "name with CRLF": [*_pseudo(), ("x-evil: a\r\nx-forwarded-for", "6.6.6.6")],
    "name with a colon": [*_pseudo(), ("x-forwarded-for: 6.6.6.6", "1")],
    "name with a space": [*_pseudo(), ("x forwarded for", "6.6.6.6")],
    "name in capitals": [*_pseudo(), ("X-Forwarded-For", "6.6.6.6")],
    "name empty": [*_pseudo(), ("", "evil")],
    "name with an underscore": [*_pseudo(), ("x_forwarded_for", "6.6.6.6")],
    "path without slash": _pseudo((":path", "x")),
    "path empty": _pseudo((":path", "")),
    "path with a space": _pseudo((":path", "/x HTTP/1.1\r\nHost: evil.example\r\n\r\n")),
    "path with CRLF": _pseudo((":path", "/\r\nX-Forwarded-For: 6.6.6.6")),
    "path with dot segments": _pseudo((":path", "/metrics/../x")),
    "path with encoded dot segments": _pseudo((":path", "/metrics/%2e%2e/x")),
    "path absolute": _pseudo((":path", "https://evil.example/x")),
    "path *": _pseudo((":path", "*")),
    "method with a space": _pseudo((":method", "GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\nGET")),
    "method empty": _pseudo((":method", "")),
    "method CONNECT": _pseudo((":method", "CONNECT"), without=[":scheme", ":path"]),
    "method TRACE": _pseudo((":method", "TRACE")),
    "scheme with CRLF": _pseudo((":scheme", "http://evil.example/\r\nX-Evil: 1")),
    "scheme of another kind": _pseudo((":scheme", "gopher")),
    "no authority": _pseudo(without=[":authority"]),
    "another authority": _pseudo((":authority", "evil.example")),
    "authority with a port of letters": _pseudo((":authority", "HOST:9evil")),
    "authority with user": _pseudo((":authority", "evil@HOST")),
    "authority and another host": [*_pseudo(), ("host", "evil.example")],
    "two hosts": [*_pseudo(without=[":authority"]), ("host", "HOST"), ("host", "evil.example")],
    "two paths": [*_pseudo(), (":path", "/second")],
    "two methods": [*_pseudo(), (":method", "POST")],
    "pseudo-header at the end": [*_pseudo(without=[":path"]), ("x-evil", "1"), (":path", "/")],
    "pseudo-header unknown": [*_pseudo(), (":evil", "1")],
    "pseudo-header of WebSockets": [*_pseudo((":method", "CONNECT")), (":protocol", "websocket")],
    "no method": _pseudo(without=[":method"]),
    "no path": _pseudo(without=[":path"]),
    "headers too large": [*_pseudo(), *[(f"x-{number}", "a" * 4000) for number in range(40)]],
}


def send_http2(connection: ssl.SSLSocket, host: str, headers: list[Header], body: bytes = b"body") -> None:
    """One request on a connection that has agreed on h2. Nothing is checked here: what is wrong is sent so."""
    written = [(name, value.replace("HOST", host)) for name, value in headers]
    block = Encoder().encode([(name.encode("latin-1"), value.encode("latin-1")) for name, value in written])
    parts = [block[start : start + 16000] for start in range(0, len(block), 16000)]
    frames: list[Frame] = [SettingsFrame(0)]
    for number, part in enumerate(parts):
        frame: HeadersFrame | ContinuationFrame = (
            ContinuationFrame(1, part) if number else HeadersFrame(1, part, flags=[] if body else ["END_STREAM"])
        )
        if number == len(parts) - 1:
            frame.flags.add("END_HEADERS")
        frames.append(frame)
    if body:
        frames.append(DataFrame(1, body, flags=["END_STREAM"]))
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    with contextlib.suppress(OSError):
        connection.sendall(preface + b"".join(frame.serialize() for frame in frames))


def wait_for_end(connection: ssl.SSLSocket | socket.socket, seconds: float = 2) -> bytes:
    """Read until the stream, or the connection, has ended."""
    connection.settimeout(seconds)
    data = b""
    with contextlib.suppress(OSError):
        while part := connection.recv(65536):
            data += part
            if _has_ended(data):
                break
    return data


def _has_ended(data: bytes) -> bool:
    while len(data) >= 9:
        length, kind, flags = int.from_bytes(data[:3]), data[3], data[4]
        if kind == RstStreamFrame.type or (kind in (DataFrame.type, HeadersFrame.type) and flags & 1):
            return True
        data = data[9 + length :]
    return False


def status(data: bytes) -> int:
    """The status of the first answer in frames; 0 where there is none."""
    while len(data) >= 9:
        length, kind = int.from_bytes(data[:3]), data[3]
        if kind == HeadersFrame.type:
            found = dict(Decoder().decode(data[9 : 9 + length], raw=True))
            return int(found[b":status"])
        data = data[9 + length :]
    return 0


# What reaches the app


def unlike_normal(request: bytes, host: str, emptied: Iterable[str]) -> list[str]:
    """What is not normal about a request that reached the app, a sentence each; none should be."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    found = []
    if not re.fullmatch(rb"[A-Z_-]+ /(?!/)[\x21-\x7e]* HTTP/1\.[01]", first):
        found.append(f"its first line is {first[:80]!r}")
    path = first.split(b" ")[1].partition(b"?")[0] if first.count(b" ") == 2 else b""
    if re.search(rb"(?i)(/|%2f|%5c|\\)(\.|%2e){1,2}(/|%2f|%5c|\\|;|$)", path):
        found.append(f"its path is {path!r}")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    names = [name.decode("latin-1") for name, _ in headers]
    found += [
        f"it has a header {line[:80]!r}" for line in lines if not re.fullmatch(rb"[A-Za-z0-9-]+: ?[^\0\r\n]*", line)
    ]
    found += [f"it has {name}" for name in {*names} & {*map(str.lower, emptied), "transfer-encoding", "te", "expect"}]
    singles = ("host", "content-length", "x-forwarded-for", "x-request-id", "x-forwarded-proto", "x-forwarded-host")
    found += [f"it has {name} {names.count(name)} times" for name in singles if names.count(name) > 1]
    known = {name: value.decode("latin-1") for name, value in headers}
    for name, wanted in ((b"host", host), (b"x-forwarded-host", host), (b"x-forwarded-proto", "https")):
        if known.get(name) != wanted:
            found.append(f"its {name.decode()} is {known.get(name)!r}")
    if known.get(b"upgrade", "websocket") != "websocket":
        found.append(f"it asks for {known[b'upgrade']}")
    if int(known.get(b"content-length") or 0) != len(body):
        found.append(f"it has {len(body)} bytes behind it, not {known.get(b'content-length')}")
    return found
