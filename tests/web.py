"""A web server on this machine that misbehaves as it is told to."""

import contextlib
import http.server
import re
import threading
from collections.abc import Iterator


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` by path; `seen` has the (method, path, Range header) of every request.

    The next responses, one by one, break off after the bytes in `breaks` (None: whole), stall there
    instead if `stalls`, or are errors of the statuses in `errors`.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, str] = {}  # instead of the usual ones, or besides
        self.redirects: dict[str, str] = {}
        self.breaks: list[int | None] = []
        self.errors: list[int] = []
        self.ranges = True
        self.stalls = False
        self.endless = False
        self.seen: list[tuple[str, str, str | None]] = []
        self.closing = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def ranges_seen(self) -> list[str | None]:
        return [wanted for _, _, wanted in self.seen]

    def handle_error(self, request, client_address):
        """The client may leave at any time."""


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        server, wanted = self.server, self.headers["Range"]
        server.seen.append((self.command, self.path, wanted))
        if server.errors:
            return self._empty(server.errors.pop(0))
        if self.path in server.redirects:
            return self._empty(302, {"Location": server.redirects[self.path]})
        if self.path not in server.files:
            return self._empty(404)
        content, status, headers = server.files[self.path], 200, {}
        if wanted and server.ranges:
            first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if first >= len(content):
                return self._empty(416, {"Content-Range": f"bytes */{len(content)}"})
            status, whole = 206, len(content)
            content = content[first:]
            headers = {"Content-Range": f"bytes {first}-{whole - 1}/{whole}"}
        headers |= {"Content-Length": str(len(content)), "ETag": f'"{hash(content)}"'}
        headers |= server.headers
        self._start(status, {k: v for k, v in headers.items() if v})
        if body:
            self._send(content)

    def _empty(self, status, headers=None):
        self._start(status, {"Content-Length": "0"} | (headers or {}) | self.server.headers)

    def _start(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, content):
        end = self.server.breaks.pop(0) if self.server.breaks else None
        self.wfile.write(content[:end])
        if end is not None and self.server.stalls:
            self.server.closing.wait()
        while self.server.endless and not self.server.closing.is_set():
            self.wfile.write(bytes(1000))


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
