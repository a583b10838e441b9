"""`python -m experiments.serve`: a server process, asked by machines, by a browser and by fools."""

import contextlib
import dataclasses
import io
import json
import os
import signal
import socket
import threading
import time

import browser
import numpy as np
import PIL.Image
import programs
import pytest
import requests
import texts

from tl_jax import interrupt
from tl_jax.base.load import load_base
from tl_jax.errors import UserError
from tl_jax.serving import server


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The file of a small classifier of images, with a class whose name is hostile."""
    base = load_base("resnet18", "random:0").resized(32).with_head(3, cut="stage1_block1")
    base = dataclasses.replace(base, classes=("bar", "<b>Scheibe</b>", "方"))
    path = tmp_path_factory.mktemp("run") / "model.safetensors"
    base.save(path)
    return path


@pytest.fixture(scope="module")
def serving(model):
    """The process and the address of a server."""
    process = programs.start("serve", f"--run={model}", "--port=0")
    address = process.stdout.readline().split()[-1]
    yield process, address
    process.kill()
    process.communicate()


def png(image: PIL.Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def noise() -> PIL.Image.Image:
    return PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))


def ask(address, content, **options):
    return requests.post(f"{address}predict", data=content, timeout=60, **options)


def test_an_image_is_answered_as_predict_answers(serving, model):
    found = ask(serving[1], png(noise()))
    base = load_base(model)
    (row,) = base.predict([noise()])
    assert found.status_code == 200 and list(found.json()["probabilities"]) == list(base.classes)
    np.testing.assert_allclose(list(found.json()["probabilities"].values()), row, atol=1e-5)
    assert found.json()["class"] == base.classes[row.argmax()]
    about = requests.get(f"{serving[1]}about", timeout=60).json()
    assert about["classes"] == list(base.classes) and about["reads"] == "image"


def bomb() -> bytes:
    return png(PIL.Image.new("1", (10_000, server.MAX_PIXELS // 10_000 + 1)))


@pytest.mark.parametrize(("content", "status", "line"), [
    (lambda: b"", 400, "the file is empty"),
    (lambda: b"not an image", 400, "not an image of a known format"),
    (lambda: png(noise())[:200], 400, "cannot read 'image'"),
    (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n", 400, "not an image of a known format"),
    (bomb, 400, f"10000 x 5001 pixels are more than {server.MAX_PIXELS}"),
    (lambda: bytes(server.MAX_BYTES + 1), 413, "at most 20 MiB are read"),
    (lambda: iter([b"chunk"]), 411, "say the Content-Length"),
])  # fmt: skip
def test_a_bad_body_gets_one_line(serving, content, status, line):
    found = ask(serving[1], content())
    assert found.status_code == status
    assert found.json().keys() == {"error"}
    assert line in found.json()["error"] and "\n" not in found.json()["error"]


@pytest.mark.parametrize("path", ["/etc/passwd", "/../../etc/passwd", "/page.html", "/predict?x=1"])
def test_no_path_from_outside_leads_to_a_file(serving, path):
    for method in ("GET", "POST"):
        found = raw(serving[1], f"{method} {path} HTTP/1.1\r\nContent-Length: 0\r\n\r\n".encode())
        assert found.startswith(b"HTTP/1.1 404 ")


def raw(address, request: bytes) -> bytes:
    """What the server answers to these bytes."""
    host, port = address.removeprefix("http://").rstrip("/").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(request)
        with contextlib.suppress(ConnectionError):
            return b"".join(iter(lambda: connection.recv(2**16), b""))
    return b""


def test_other_requests_get_one_line(serving):
    for request, status in (
        (b"GET /predict HTTP/1.1\r\n\r\n", 405),
        (b"PUT /predict HTTP/1.1\r\n\r\n", 501),
        (b"POST /predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 411),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
    ):
        head, _, body = raw(serving[1], request).partition(b"\r\n\r\n")
        assert f" {status} ".encode() in head.splitlines()[0]
        assert json.loads(body)["error"]


def test_the_page_is_one_file_that_loads_nothing(serving):
    found = requests.get(serving[1], timeout=60)
    assert found.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "src=" not in found.text and "href=" not in found.text


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_a_signal_ends_it_after_what_has_begun(model, number):
    process = programs.start("serve", f"--run={model}", "--port=0")
    address = process.stdout.readline().split()[-1]
    host, port = address.removeprefix("http://").rstrip("/").split(":")
    content = png(noise())
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        head = f"POST /predict HTTP/1.1\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        connection.sendall(head + content[:100])
        time.sleep(0.5)  # it is read by now
        os.kill(process.pid, number)
        time.sleep(0.5)
        connection.sendall(content[100:])
        assert connection.recv(2**16).startswith(b"HTTP/1.1 200 ")
    ended = programs.ended(process)
    assert ended.returncode == 0 and ended.stdout.splitlines()[-1] == "stopped"


@contextlib.contextmanager
def here(base):
    """The address of a server in a thread of this process."""
    with server.Server(base, "127.0.0.1", 0) as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.address(one)
        finally:
            one.shutdown()
            thread.join()


def test_a_text_is_answered_and_other_bodies_are_not():
    base = dataclasses.replace(texts.base().with_head(2), classes=("bad", "good"))
    with here(base) as address:
        found = ask(address, json.dumps({"text": "a good film"}))
        (row,) = base.predict(["a good film"])
        assert list(found.json()["probabilities"]) == ["bad", "good"]
        np.testing.assert_allclose(list(found.json()["probabilities"].values()), row, atol=1e-5)
        for body in (
            *(b"", b"a good film", b"[1]", b'{"text": 1}', b'{"text": " "}', b"[" * 10_000),
            *(b'{"text": "\\ud800"}', b"\xff", b'{"text": "a", "path": "/etc"}'),
        ):
            found = ask(address, body)
            assert (found.status_code, list(found.json())) == (400, ["error"])
            assert "send JSON with a text" in found.json()["error"]


def test_a_fault_of_its_own_is_answered_and_the_next_request_too(monkeypatch, caplog):
    base = dataclasses.replace(texts.base().with_head(2), classes=("bad", "good"))
    with here(base) as address:
        monkeypatch.setattr(server.Server, "predict", lambda self, given: 1 / 0)
        found = ask(address, json.dumps({"text": "a"}))
        assert (found.status_code, found.json()["error"]) == (
            500,
            "it failed here; the log says how",
        )
        assert "ZeroDivisionError" in caplog.text
        monkeypatch.undo()
        assert ask(address, json.dumps({"text": "a"})).status_code == 200


def test_what_cannot_be_served_is_one_line(model):
    base = load_base(model)
    with pytest.raises(UserError, match="it has no classifier"):
        server.Server(base.cut("stem"), "127.0.0.1", 0)
    with server.Server(base, "127.0.0.1", 0) as one, pytest.raises(UserError, match="say --port="):
        server.Server(base, "127.0.0.1", one.server_port)
    assert not interrupt.requested()


@pytest.mark.slow
def test_a_photo_is_dropped_on_the_page_and_the_answer_appears(serving, model, tmp_path):
    (tmp_path / "photo.png").write_bytes(png(noise()))
    (tmp_path / "notes.png").write_text("not an image")
    with browser.page(tmp_path / "profile") as page:
        page.send("Page.enable")
        page.send("Page.navigate", url=serving[1])
        page.until("document.getElementById('drop') && !document.getElementById('drop').hidden")
        page.drop(tmp_path / "photo.png", 200, 150)
        shown = page.until("[...document.querySelectorAll('td')].map(cell => cell.textContent)"
                           ".join('|')").split("|")  # fmt: skip
        base = load_base(model)
        (row,) = base.predict([noise()])
        order = np.argsort(-row)
        assert shown[::3] == [base.classes[number] for number in order]
        assert shown[2::3] == [f"{100 * row[number]:.1f} %" for number in order]
        for width in (400, 1200):
            page.picture(tmp_path / f"page_{width}.png", width)
        page.drop(tmp_path / "notes.png", 200, 150)
        error = "document.getElementById('error')"
        assert "cannot read" in page.until(f"!{error}.hidden && {error}.textContent")
