"""A headless Chromium, spoken to over a pipe by the DevTools protocol: no driver, no port, no network.

Needs Debian's ``chromium``, or the program named by CHROMIUM; :func:`find_browser` says where there is none.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

SECONDS = 60  # until an answer is given up: a loaded machine takes its time
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
)  # fmt: skip


def find_browser() -> str | None:
    """The browser's program; ``None`` where there is none."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


class Browser:
    """One tab of a browser; what it did and said is in ``events``."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []
        self._number = 0
        self._buffer = b""
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command_read, self._commands = os.pipe()
        self._answers, answer_write = os.pipe()

        def pass_pipes() -> None:  # the browser reads commands from descriptor 3 and answers on 4
            # First to numbers that are neither: either may be one of the two already.
            reader, writer = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (command_read, answer_write))
            os.dup2(reader, 3)
            os.dup2(writer, 4)

        program = find_browser()
        assert program, "call find_browser first"
        self._process = subprocess.Popen(
            [program, *ARGUMENTS, f"--user-data-dir={self._profile.name}"],
            close_fds=False,  # Python's own descriptors are not inherited anyway
            preexec_fn=pass_pipes,  # noqa: PLW1509 (it only duplicates descriptors)
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_read)
        os.close(answer_write)
        self._session = ""
        try:
            self._open_tab()
        except Exception:
            self.close()
            raise

    def _open_tab(self) -> None:
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(SECONDS)
        os.close(self._commands)
        os.close(self._answers)
        self._profile.cleanup()

    def send(self, method: str, **parameters: object) -> dict[str, Any]:
        """Give a command of the protocol, and wait for its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") != self._number:
                self.events.append(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            else:
                return dict(answer["result"])

    def open(self, page: Path, *, width: int = 1400, height: int = 900, is_touch: bool = False) -> None:
        """Open a file at a width, and wait until it has loaded."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=is_touch,
        )  # fmt: skip
        self.send("Emulation.setTouchEmulationEnabled", enabled=is_touch)
        self.events.clear()
        self.send("Page.navigate", url=page.absolute().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def emulate(self, **features: str) -> None:
        """Emulate these media features alone, as ``prefers_color_scheme="dark"``."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.send("Emulation.setEmulatedMedia", features=named)

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression on the page."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description", expression))
        return answer["result"].get("value")

    def center(self, selector: str) -> tuple[float, float]:
        """Scroll to the first element that a selector finds; its center in the window."""
        script = (
            f"(e => {{ e.scrollIntoView({{block: 'center', behavior: 'instant'}}); const r = e.getBoundingClientRect();"
            f" return [r.x + r.width / 2, r.y + r.height / 2]; }})(document.querySelector({json.dumps(selector)}))"
        )
        x, y = self.evaluate(script)
        return x, y

    def hover(self, selector: str) -> None:
        """Move the mouse onto the first element that a selector finds."""
        x, y = self.center(selector)
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str) -> None:
        """Click on the first element that a selector finds."""
        x, y = self.center(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def tap(self, selector: str) -> None:
        """Tap on the first element that a selector finds, as with a finger."""
        x, y = self.center(selector)
        self.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def screenshot(self, file: Path, *, is_whole: bool = False) -> None:
        """Save a picture of the window, or of the whole page."""
        data = self.send("Page.captureScreenshot", captureBeyondViewport=is_whole)["data"]
        file.write_bytes(base64.b64decode(data))

    def print_pdf(self, file: Path) -> None:
        """Print the page to A4."""
        data = self.send("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, preferCSSPageSize=True)["data"]
        file.write_bytes(base64.b64decode(data))

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, and exceptions."""
        self.evaluate("new Promise(requestAnimationFrame)")
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [json.dumps(event["params"]) for event in self.events if event.get("method") in kinds]

    def requests(self) -> list[str]:
        """Addresses that the page asked for, itself first."""
        sent = [event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [event["request"]["url"] for event in sent]

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"no answer of the browser within {SECONDS} seconds")
            data = os.read(self._answers, 1 << 20)
            if not data:
                raise RuntimeError("the browser has ended")
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))
