"""The explorer as a web page: a small server on this machine, for use without Jupyter and on Colab.

Its page has two modes, each with a board and messages of its own: it restores photos, and it explores a search.

It listens on 127.0.0.1 only, answers only under this machine's own names, and every request needs the token from the
page's address, which other users of the machine and other pages in the browser do not know. A page keeps asking what
has changed on the board, so it may be closed, reloaded or opened twice while the search goes on.
"""

import base64
import html
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote

from ex5lib.errors import Ex5Error, FileError, sentence
from ex5lib.explorer.exploration import Exploration
from ex5lib.explorer.restoring import SUFFIXES, Restoring

_STATIC = Path(__file__).parent / "static"
# A widget's script must be one module, so these are joined; the others are for this server only.
_PARTS = ("drawing", "numbers", "brush", "painting", "stage", "controls", "picture", "explorer")
_RESTORING = ("drawing", "brush", "painting", "stage", "viewer", "asking", "restore")


def _joined(names: Iterable[str]) -> str:
    return "\n".join((_STATIC / f"{name}.js").read_text(encoding="utf-8") for name in names)


SCRIPT = _joined(_PARTS)
STYLE = (_STATIC / "explorer.css").read_text(encoding="utf-8")
_LONGEST_WAIT = 10.0  # seconds that a request may wait for a change
_FILES = {
    "/explorer.js": (SCRIPT.encode(), "text/javascript; charset=utf-8"),
    "/page.js": ((_STATIC / "page.js").read_bytes(), "text/javascript; charset=utf-8"),
    "/explorer.css": (STYLE.encode(), "text/css; charset=utf-8"),
    "/restore.js": (_joined(_RESTORING).encode(), "text/javascript; charset=utf-8"),
    "/restore.css": ((_STATIC / "restore.css").read_bytes(), "text/css; charset=utf-8"),
    **{f"/{path.name}": (path.read_bytes(), "image/jpeg") for path in (_STATIC / "examples").glob("*.jpg")},
}
_MAX_BODY = 8_000_000  # bytes; files come in smaller parts
_MOST = 32  # connections at a time, each with a thread; a browser opens at most 6
_PATIENCE = 20.0  # seconds in which a request must have come, and then again, in which its answer must be taken
_HOSTS = {"127.0.0.1", "localhost"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
_BUSY = b"Too many connections are open at once: close other pages of this explorer, then reload this one."
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<link rel="stylesheet" href="explorer.css?token={token}"><link rel="stylesheet" href="restore.css?token={token}"></head>
<body class="ex5-page">{head}<main data-token="{token}"></main>
<script type="module" src="page.js?token={token}"></script></body></html>
"""


_EXPLORING = "<header><h1>Explore the search</h1></header>"
_BOTH = """<header class="top"><h1>Old photos of faces, restored</h1>
<p>The face in your photo is replaced by one that, damaged in the same way, would look just like it. It is a likely
guess, not the truth. Everything happens on this computer.</p>
<div class="modes" role="tablist" aria-label="modes">
<button type="button" role="tab" id="tab-restore" aria-controls="restore">Restore my photo</button>
<button type="button" role="tab" id="tab-explore" aria-controls="explore">Explore the search</button></div></header>"""


class PageServer(ThreadingHTTPServer):
    """Takes a port, 0 any free one, and serves an exploration there, in threads of its own, from ``show`` to ``close``.

    Args:
        framed: for Colab, whose proxy shows the page in a frame and under a name of its own.

    Raises:
        FileError: if the port is taken, or there is no such port.
    """

    daemon_threads = True
    allow_reuse_address = False
    request_queue_size = 128
    exploration: Exploration
    restoring: Restoring | None

    def __init__(self, port: int = 0, *, framed: bool = False):
        self.token, self.framed = secrets.token_urlsafe(24), framed
        self._until: dict[socket.socket, float] = {}  # when the patience with each connection ends
        self._refused: dict[socket.socket, float] = {}
        self._thread: threading.Thread | None = None
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "there are ports from 0 to 65535"
            raise FileError(f"The page cannot use port {port} ({reason}): choose another --port.") from None

    @property
    def path(self) -> str:
        return f"/?token={quote(self.token)}"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{self.path}"

    def show(self, exploration: Exploration, restoring: Restoring | None = None) -> None:
        """Begin to answer; with the mode that restores photos, if it is given."""
        self.exploration, self.restoring = exploration, restoring
        self._thread = threading.Thread(target=self.serve_forever, name="ex5lib page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._thread is not None:
            self.shutdown()
        self.server_close()

    def process_request(self, request: socket.socket, client_address: tuple) -> None:  # type: ignore[override]
        """Give a connection a thread, or a sentence if there are too many."""
        if len(self._until) < _MOST:
            self.wait_for(request)
            super().process_request(request, client_address)
            return
        with suppress(OSError):
            head = f"HTTP/1.1 503 Busy\r\nContent-Type: text/plain\r\nContent-Length: {len(_BUSY)}\r\n\r\n"
            request.sendall(head.encode() + _BUSY)
            request.shutdown(socket.SHUT_WR)
        # Closed at once, it would throw away the answer if the request has not quite come.
        self._refused[request] = time.monotonic() + 1

    def wait_for(self, request: socket.socket) -> None:
        """Have patience with a connection from now on."""
        self._until[request] = time.monotonic() + _PATIENCE

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """At the end of a connection's thread: close it."""
        self._until.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Twice a second: end connections that have taken too long, which ends their threads."""
        now = time.monotonic()
        for request in [request for request, until in self._until.copy().items() if until < now]:
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)
        for request in [request for request, until in self._refused.items() if until < now]:
            del self._refused[request]
            request.close()


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with suppress(ConnectionError):  # the page was closed or reloaded
            super().handle()

    def handle_one_request(self) -> None:
        self.server.wait_for(self.connection)
        super().handle_one_request()

    def do_GET(self) -> None:
        path, asked = self._asked()
        if path is None:
            return
        exploration, restoring = self.server.exploration, self.server.restoring
        if path == "/":
            name = exploration.board.values["state"]["name"]
            title, head = (f"Explorer: {name}", _EXPLORING) if restoring is None else ("Old photos of faces", _BOTH)
            page = _PAGE.format(title=html.escape(title), token=self.server.token, head=head)
            self._answer(page.encode(), "text/html; charset=utf-8")
        elif path in _FILES:
            self._answer(*_FILES[path])
        elif path == "/changes":
            version, values = self._mode(asked).board.since(_whole(asked.get("since", "")) or 0, _LONGEST_WAIT)
            self._answer(json.dumps({"version": version, "values": values}, default=_base64).encode())
        else:
            try:
                if path == "/archive":
                    name, content = exploration.download(asked.get("picture"))
                    self._answer(content, "application/octet-stream", name=name)
                elif path == "/picture" and restoring:
                    name = asked.get("name", "")
                    self._answer(restoring.picture(name), "image/png" if name == "damage" else "image/jpeg")
                elif path == "/photo" and restoring:
                    name, content = restoring.download(suffix := asked.get("as", ""))
                    self._answer(content, SUFFIXES[suffix], name=name)
                else:
                    self._refuse("There is no such page.", HTTPStatus.NOT_FOUND)
            except (Ex5Error, OSError) as error:
                if isinstance(error, ConnectionError):
                    raise
                self._refuse(sentence(error), HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        path, asked = self._asked()
        if path is None:
            return
        length = _whole(self.headers.get("Content-Length", ""))
        if length is None or length > _MAX_BODY or "Transfer-Encoding" in self.headers:
            self._refuse("This is too long, or does not say how long it is.", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        body = self.rfile.read(length)
        if len(body) < length:  # the page was closed, or is too slow
            self.close_connection = True
            return
        try:
            message = json.loads(asked.get("message", ""))
        except (ValueError, RecursionError):
            message = None
        self._mode(asked).handle(message, body)
        self._answer(b"{}")

    def _asked(self) -> tuple[str | None, dict[str, str]]:
        """The path and the query of a request; one that is refused is answered here, and its path is None."""
        path, _, query = self.path.partition("?")
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        hosts = {host.rpartition(":")[0] or host for host in self.headers.get_all("Host", [])}
        if not self.server.framed and (not hosts or not hosts <= _HOSTS):  # another site's name, made to point here
            self._refuse(f"This page is at {self.server.address.partition('?')[0]} only.", HTTPStatus.FORBIDDEN)
            return None, {}
        if not secrets.compare_digest(asked.get("token", "").encode(), self.server.token.encode()):
            text = "This page needs the token from the address that was printed when it was started."
            self._refuse(text, HTTPStatus.FORBIDDEN)
            return None, {}
        self.server.wait_for(self.connection)
        return path, asked

    def _mode(self, asked: dict[str, str]) -> Exploration | Restoring:
        """The mode of the page that asks."""
        return (
            self.server.restoring
            if asked.get("mode") == "restore" and self.server.restoring
            else self.server.exploration
        )

    def _refuse(self, why: str, status: HTTPStatus) -> None:
        self.close_connection = True  # a body is not read
        self._answer(why.encode(), "text/plain; charset=utf-8", status)

    def _answer(
        self, content: bytes, kind: str = "application/json", status: HTTPStatus = HTTPStatus.OK, name: str = ""
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if name:
            self.send_header("Content-Disposition", f"attachment; filename*=UTF-8''{quote(name)}")
        self.end_headers()
        self.wfile.write(content)

    def end_headers(self) -> None:
        """End the head of any answer."""
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        frames = "" if self.server.framed else "; frame-ancestors 'none'"
        self.send_header("Content-Security-Policy", _POLICY + frames)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing: a page sends several requests a second."""


def _whole(text: str) -> int | None:
    """A number of at most 15 digits; None if it is none."""
    return int(text) if re.fullmatch(r"\d{1,15}", text) else None


def _base64(value: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(value).decode()}
