"""Chromium without a window, driven by the DevTools protocol over a pipe."""

import base64
import contextlib
import itertools
import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any, BinaryIO

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions"),
    *("--disable-background-networking", "--hide-scrollbars", "--remote-debugging-pipe"),
)


class Page:
    """One page of a browser; `send` is a command of https://chromedevtools.github.io."""

    def __init__(self, commands: int, answers: BinaryIO):
        self._commands, self._answers = commands, answers
        self._numbers, self._session = itertools.count(1), None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._message())
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _message(self) -> bytes:
        message = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "the browser ended"
            message += byte
        return bytes(message)

    def evaluate(self, script: str) -> Any:
        """The value of an expression, which may be a promise."""
        options = {"awaitPromise": True, "returnByValue": True}
        found = self.send("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, condition: str) -> Any:
        """Wait until an expression is true; its value."""
        poll = f"""new Promise((done, failed) => {{
            const until = Date.now() + 60000, look = () => {{
                const value = {condition};
                if (value) done(value);
                else if (Date.now() > until) failed(Error(document.body.innerText));
                else setTimeout(look, 50);
            }};
            look();
        }})"""
        return self.evaluate(poll)

    def drop(self, path: pathlib.Path, x: int, y: int) -> None:
        """Drag a file there and let go."""
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.send("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def picture(self, path: pathlib.Path, width: int) -> None:
        """Write the page at that width as a PNG."""
        size = {"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))


@contextlib.contextmanager
def page(folder: pathlib.Path) -> Iterator[Page]:
    """A page of a browser whose profile is in the folder."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "the test of the page needs chromium: apt-get install chromium"
    (to_read, commands), (answers, to_write) = os.pipe(), os.pipe()

    # The browser looks for the pipe at 3 and 4. A shell puts it there: JAX does not like forks.
    shell = f'exec "$@" 3<&{to_read} 4>&{to_write}'
    command = [chromium, *FLAGS, f"--user-data-dir={folder}"]
    process = subprocess.Popen(
        ["bash", "-c", shell, "bash", *command],
        pass_fds=(to_read, to_write),
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(to_write)
    try:
        with os.fdopen(answers, "rb") as file:
            yield Page(commands, file)
    finally:
        os.close(commands)
        process.kill()
        process.wait()
