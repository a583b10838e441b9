"""A classifier behind HTTP: one page for people, `POST /predict` for machines.

    GET  /         a page to drop a photo on, or to paste a text into
    GET  /about    what is asked for, the classes and the limits, as JSON
    POST /predict  the bytes of an image file, or {"text": "..."}; answers with JSON

Nothing that a client sends names a file. Every refusal is {"error": "one line"}. It is small, for
one machine and a few people; it has no TLS and no accounts.
"""

import http.server
import io
import json
import logging
import pathlib
import socket
import threading
import time
from http import HTTPStatus
from typing import Any

import numpy as np

from tl_jax import interrupt
from tl_jax.base import predict
from tl_jax.base.base import Base
from tl_jax.chain import answers
from tl_jax.data.images import Image, open_image
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.errors import UserError

logger = logging.getLogger(__name__)

MAX_BYTES = 20 * 2**20  # of a request's body
MAX_PIXELS = 50_000_000  # of an image, before any is decoded
DISCARDED = 4  # times MAX_BYTES: what is read of a larger body, so that its sender sees the answer
PLACES = 16  # requests at a time; further connections are closed
SECONDS = 10  # for a client to send or take the next bytes
LAST = 10  # seconds that a stop waits for requests
POLL = 0.1  # seconds between two looks for a signal
PAGE = pathlib.Path(__file__).with_name("page.html")
HEADERS = {
    "Connection": "close",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; img-src blob:; connect-src 'self'; frame-ancestors 'none'",
}


class Refused(Exception):
    """A request that is answered with an error; the message is the line."""

    def __init__(self, status: HTTPStatus, line: str):
        super().__init__(line)
        self.status = status


class Server(http.server.ThreadingHTTPServer):
    """Answers with one base; UserError for one without a classifier, a detector, a taken address.
    """

    daemon_threads = True  # a client that sends a byte now and then must not hold up the end

    def __init__(self, base: Base, host: str, port: int):
        base.require_rows()
        self.base = base
        self.reads_images = isinstance(base.preprocessing, Preprocessing)
        self.page = PAGE.read_bytes()
        self.alone = threading.Lock()  # one answer at a time, which has all cores
        self.places = threading.BoundedSemaphore(PLACES)
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise UserError(f"{host}:{port} cannot be listened at ({why}): say --port=") from None

    def answer(self, body: bytes) -> dict[str, Any]:
        """The answer to a request's body; UserError for one that cannot be read."""
        with self.alone:  # decoding, too: an image may take a gigabyte on the way
            row = self.predict(self._image(body) if self.reads_images else _text(body))
        return predict.said(self.base, row)

    def predict(self, given: Image | str) -> np.ndarray:
        """The row (C,) of `Base.predict` for one input."""
        return self.base.predict([given])[0]

    def warm_up(self) -> None:
        """Compile before the first request."""
        if self.reads_images:
            self.predict(np.zeros((8, 8, self.base.of_images.channels), np.uint8))
        else:
            self.predict("a")

    def about(self) -> dict[str, Any]:
        """What is asked for, the classes and the limits."""
        return {
            "base": self.base.name,
            "reads": "image" if self.reads_images else "text",
            "asks": answers.make(self.base.answers).asks,
            "classes": list(self.base.classes),
            "max_bytes": MAX_BYTES,
            "max_pixels": MAX_PIXELS,
        }

    def run(self) -> None:
        """Answer until a signal that `interrupt.caught` notes; then finish what has begun."""
        self.timeout = POLL
        while not interrupt.requested():
            self.handle_request()
        until = time.monotonic() + LAST
        for _ in range(PLACES):
            self.places.acquire(timeout=max(0, until - time.monotonic()))

    def process_request(self, request, client_address) -> None:
        """Begin a request if there is a place."""
        if self.places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request, client_address) -> None:
        """Answer a request and give its place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, request, client_address) -> None:
        """Say nothing of a client that has left."""
        logger.debug("%s left", client_address[0])

    def _image(self, body: bytes) -> Image:
        return open_image(io.BytesIO(body), self.base.of_images.grey_range)


def _text(body: bytes) -> str:
    """The text of {"text": "..."}; UserError for any other body."""
    try:
        given = json.loads(body)
        if not isinstance(given, dict) or given.keys() != {"text"}:
            raise ValueError("another object")
        text = given["text"]
        if not isinstance(text, str) or not text.strip():
            raise ValueError("no text")
        text.encode()  # half of a surrogate pair is none
    except (RecursionError, ValueError):
        raise UserError('send JSON with a text: {"text": "..."}') from None
    return text


class _Handler(http.server.BaseHTTPRequestHandler):
    # pyrefly: ignore[bad-override-mutable-attribute]
    server: Server  # which alone makes these
    server_version, sys_version = "tl_jax", ""
    protocol_version = "HTTP/1.1"
    timeout = SECONDS

    def do_GET(self) -> None:
        if self.path == "/":
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)
        elif self.path == "/about":
            self._send_json(HTTPStatus.OK, self.server.about())
        elif self.path == "/predict":
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED, "POST it")
        else:
            self.send_error(HTTPStatus.NOT_FOUND, "there are /, /about and /predict")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        try:
            if self.path != "/predict":
                raise Refused(HTTPStatus.NOT_FOUND, "POST to /predict")
            self._send_json(HTTPStatus.OK, self.server.answer(self._body()))
        except Refused as error:
            self.send_error(error.status, str(error))
        except UserError as error:
            self.send_error(HTTPStatus.BAD_REQUEST, str(error))
        except (ConnectionError, TimeoutError):
            raise
        except Exception:  # whatever it is, the next request is answered
            logger.exception("a request failed")
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, "it failed here; the log says how")

    def _body(self) -> bytes:
        """The request's body; Refused if its length is not said or too large."""
        said = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (said.isascii() and said.isdigit()):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "say the Content-Length of the body")
        length = int(said[:20])
        if length > MAX_BYTES:
            self._discard(min(length, DISCARDED * MAX_BYTES))
            most = f"at most {MAX_BYTES // 2**20} MiB are read: send a smaller one"
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, most)
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError("it left")
        return body

    def _discard(self, length: int) -> None:
        while length > 0 and (read := self.rfile.read(min(length, 2**16))):
            length -= len(read)

    def send_error(self, code, message=None, explain=None) -> None:
        """Answer with {"error": line}; http.server calls this for what it cannot parse, too."""
        line = " ".join(str(message or HTTPStatus(code).phrase).split())
        self._send_json(HTTPStatus(code), {"error": line})

    def _send_json(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(content).encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(content)), **HEADERS}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format, *args) -> None:
        """Log a line a request, with what is no plain character escaped."""
        line = ascii(format % args)[1:-1]
        logger.info("%s %s", self.client_address[0], line)


def address(server: Server) -> str:
    """Where a browser finds the server."""
    host, port = server.server_address[:2]
    name = f"[{host}]" if server.address_family == socket.AF_INET6 else host
    return f"http://{name}:{port}/"
