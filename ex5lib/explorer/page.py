"""The explorer as a web page: a small server on this machine, for use without Jupyter and on Colab.

It listens on 127.0.0.1 only, and every request needs the token from the page's address, which other users of the
machine and other pages in the browser do not know. A page keeps asking what has changed on the board, so it may be
closed, reloaded or opened twice while the search goes on.
"""

import base64
import html
import json
import secrets
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from ex5lib.errors import Ex5Error, FileError, sentence
from ex5lib.explorer.exploration import Exploration

_HERE = Path(__file__).parent
# A widget's script must be one module, so these are joined; page.js is for this server only.
_PARTS = ("drawing", "brush", "controls", "picture", "explorer")
SCRIPT = "\n".join((_HERE / f"{name}.js").read_text(encoding="utf-8") for name in _PARTS)
STYLE = (_HERE / "explorer.css").read_text(encoding="utf-8")
_LONGEST_WAIT = 10.0  # seconds that a request may wait for a change
_FILES = {
    "/explorer.js": (SCRIPT.encode(), "text/javascript; charset=utf-8"),
    "/page.js": ((_HERE / "page.js").read_bytes(), "text/javascript; charset=utf-8"),
    "/explorer.css": (STYLE.encode(), "text/css; charset=utf-8"),
}
_MAX_BODY = 8_000_000  # bytes; files come in smaller parts
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<link rel="stylesheet" href="explorer.css?token={token}"></head>
<body class="ex5-page"><main></main><script type="module">
import explorer from "./explorer.js?token={token}";
import {{ connect }} from "./page.js?token={token}";
const model = connect("{token}");
await model.ready();
explorer.render({{ model, el: document.querySelector("main") }});
</script></body></html>
"""


class PageServer(ThreadingHTTPServer):
    """Serves one exploration, in threads of its own, until ``close``; 0 takes any free port.

    Raises:
        FileError: if the port is taken.
    """

    daemon_threads = True
    allow_reuse_address = False

    def __init__(self, exploration: Exploration, port: int = 0):
        self.exploration, self.token = exploration, secrets.token_urlsafe(24)
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise FileError(f"The page cannot use port {port} ({error.strerror}): choose another --port.") from None
        threading.Thread(target=self.serve_forever, name="ex5lib page", daemon=True).start()

    @property
    def path(self) -> str:
        return f"/?token={quote(self.token)}"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{self.path}"

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, asked = self._asked()
        if path is None:
            return
        exploration = self.server.exploration
        if path == "/":
            title = html.escape(f"Explorer: {exploration.board.values['state']['name']}")
            self._answer(_PAGE.format(title=title, token=self.server.token).encode(), "text/html; charset=utf-8")
        elif path in _FILES:
            self._answer(*_FILES[path])
        elif path == "/changes":
            since = asked.get("since", "0")
            version, values = exploration.board.since(int(since) if since.isdecimal() else 0, _LONGEST_WAIT)
            self._answer(json.dumps({"version": version, "values": values}, default=_base64).encode())
        elif path == "/archive":
            try:
                name, content = exploration.shelf.archive()
            except (Ex5Error, OSError) as error:
                self._answer(sentence(error).encode(), "text/plain; charset=utf-8", HTTPStatus.NOT_FOUND)
                return
            self._answer(content, "application/zip", name=name)
        else:
            self._answer(b"There is no such page.", "text/plain", HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        path, asked = self._asked()
        if path is None:
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MAX_BODY:
            self.close_connection = True  # the body is not read
            self._answer(b"This is too long.", "text/plain", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        body = self.rfile.read(int(length))
        try:
            message = json.loads(asked.get("message", ""))
        except ValueError:
            message = {}
        self.server.exploration.handle(message if isinstance(message, dict) else {}, body)
        self._answer(b"{}")

    def _asked(self) -> tuple[str | None, dict[str, str]]:
        """The path and the query of a request; without the token it is answered here, and the path is None."""
        url = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        if secrets.compare_digest(asked.get("token", "").encode(), self.server.token.encode()):
            return url.path, asked
        self.close_connection = True
        text = b"This page needs the token from the address that was printed when it was started."
        self._answer(text, "text/plain", HTTPStatus.FORBIDDEN)
        return None, {}

    def _answer(
        self, content: bytes, kind: str = "application/json", status: HTTPStatus = HTTPStatus.OK, name: str = ""
    ) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("X-Content-Type-Options", "nosniff")
            if name:
                self.send_header("Content-Disposition", f"attachment; filename*=UTF-8''{quote(name)}")
            self.end_headers()
            self.wfile.write(content)
        except ConnectionError:  # the page was closed or reloaded
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Log nothing: a page sends several requests a second."""


def _base64(value: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(value).decode()}
