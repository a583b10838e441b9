"""A finished run goes to a hub and comes back; the hub is a server on this machine."""

import base64
import dataclasses
import http.server
import json
import logging
import threading

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from huggingface_hub import constants

from experiments import cli
from experiments import publish as program
from tl_jax.base.load import load_base
from tl_jax.errors import UserError
from tl_jax.serving.publish import publish

COMMIT = "c" * 40
TOKEN = "hf_secretsecret"


class Hub(http.server.ThreadingHTTPServer):
    """Keeps repositories' files, as far as the client asks; `refuses` is a status, or 0."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.private: dict[str, bool] = {}
        self.there: set[str] = set()  # repositories that somebody made before
        self.refuses = 0


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_POST(self):
        hub, content = self.server, self.rfile.read(int(self.headers["Content-Length"] or 0))
        if hub.refuses or self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self._send(hub.refuses or 401, b"{}")
        if self.path == "/api/repos/create":
            asked = json.loads(content)
            name = f"{asked['organization']}/{asked['name']}"
            if name in hub.there:
                return self._send(409, json.dumps({"url": f"{self._own()}/{name}"}).encode())
            hub.private[name] = asked.get("visibility") == "private"
            return self._send(200, json.dumps({"url": f"{self._own()}/me/model"}).encode())
        if self.path.endswith("/preupload/main"):
            told = {"uploadMode": "regular", "shouldIgnore": False}
            files = [{"path": one["path"], **told} for one in json.loads(content)["files"]]
            return self._send(200, json.dumps({"files": files}).encode())
        if self.path == "/api/validate-yaml":  # the card's header
            return self._send(200, b'{"errors": [], "warnings": []}')
        repository = self.path.removeprefix("/api/models/").removesuffix("/commit/main")
        for line in map(json.loads, content.splitlines()):
            if line["key"] == "file":
                value = line["value"]
                hub.files[f"{repository}/{value['path']}"] = base64.b64decode(value["content"])
        url = f"{self._own()}/{repository}/commit/{COMMIT}"
        told = {"commitUrl": url, "commitOid": COMMIT, "success": True}
        return self._send(200, json.dumps(told).encode())

    def do_GET(self):
        if self.path.startswith("/api/models/"):
            name = self.path.removeprefix("/api/models/").partition("?")[0]
            told = {"id": name, "private": self.server.private.get(name, False)}
            return self._send(200, json.dumps(told).encode())
        repository, _, rest = self.path.removeprefix("/").partition("/resolve/")
        content = self.server.files.get(f"{repository}/{rest.partition('/')[2]}")
        if content is None:
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        return self._send(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{hash(content)}"'})

    do_HEAD = do_GET

    def _own(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def _send(self, status, content, headers=None):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The server in place of the hub, and a token that it knows."""
    with Hub() as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"http://127.0.0.1:{one.server_port}"
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield one
        one.shutdown()
        thread.join()


@pytest.fixture
def run(tmp_path):
    """What a finished run leaves: a network, a card, and what is nobody's business."""
    base = load_base("resnet18", "random:0").resized(32).with_head(2, cut="stem")
    (tmp_path / "run").mkdir()
    dataclasses.replace(base, classes=("bar", "disc")).save(tmp_path / "run/model.safetensors")
    (tmp_path / "run/card.md").write_text("# A card")
    (tmp_path / "run/result.json").write_text('{"command": "/home/me"}')
    return tmp_path / "run"


def test_what_is_published_is_loaded(hub, run, caplog):
    caplog.set_level(logging.DEBUG)
    assert publish(run, "me/model", private=True).endswith("/me/model")
    assert hub.private == {"me/model": True}
    assert set(hub.files) == {"me/model/model.safetensors", "me/model/README.md"}
    assert hub.files["me/model/README.md"] == b"# A card"
    base, before = load_base("hf:me/model"), load_base(run)
    assert base.classes == before.classes and base.weights == "hf:me/model"
    pixels = np.zeros((1, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(base.predict(list(pixels)), before.predict(list(pixels)))
    assert load_base(f"hf:me/model@{COMMIT}").digest == base.digest
    assert TOKEN not in caplog.text


def test_a_repository_that_is_public_already_gets_nothing_that_is_private(hub, run):
    hub.there.add("me/model")
    with pytest.raises(UserError, match="me/model is public already"):
        publish(run, "me/model", private=True)
    assert not hub.files
    publish(run, "me/model")
    assert hub.files


def test_what_cannot_be_published_is_one_line(hub, run, monkeypatch):
    def said(repository="me/model", folder=run) -> str:
        with pytest.raises(UserError) as error:
            publish(folder, repository)
        assert TOKEN not in str(error.value) and "\n" not in str(error.value)
        return str(error.value)

    assert "named as in user/model" in said("model")
    assert "named as in user/model" in said("../model")
    hub.refuses = 403
    assert "HTTP status 403: your token may not write there" in said()
    hub.refuses = 0
    monkeypatch.delenv("HF_TOKEN")
    assert "hf auth login" in said()
    (run / "card.md").unlink()
    assert "has no card.md" in said()
    (run / "model.safetensors").write_bytes(b"")
    assert "is damaged" in said()


def test_what_is_not_on_the_hub_is_one_line(hub):
    for name, message in (
        ("hf:me/none", "there is no me/none on the hub"),
        ("hf:none", "named as in hf:user/model"),
        ("hf:../../etc", "named as in hf:user/model"),
    ):
        with pytest.raises(UserError, match=message):
            load_base(name)


def test_the_program(hub, run, capsys):
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(run=str(run), repository="me/model", private=False):
        assert cli.status(program.main, ["publish"]) == 0
    assert capsys.readouterr().out.endswith("/me/model\n") and not hub.private["me/model"]
    with flagsaver.flagsaver(run=str(run), repository=None):
        assert cli.status(program.main, ["publish"]) == 2
    assert "where to?" in capsys.readouterr().err
