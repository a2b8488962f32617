"""A headless Chromium that tests drive: keys that are really pressed, widths, light and dark."""

from __future__ import annotations

import base64
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def _axe() -> Path | None:
    """axe-core, which is no part of the project: a file that is named, or that of a package."""
    named = os.environ.get("FEATUREKIT_AXE")
    spec = importlib.util.find_spec("axe_playwright_python")
    if named is None and spec is not None and spec.origin is not None:
        named = str(Path(spec.origin).with_name("axe.min.js"))
    return Path(named) if named and Path(named).is_file() else None


AXE = _axe()
_KEYS = {"ArrowDown": 40, "ArrowUp": 38, "Enter": 13, "Escape": 27, "Tab": 9}


class Page:
    """A page of the browser, over its protocol of developer tools."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket, self.numbers = socket, itertools.count(1)
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> Any:
        """The answer of a command."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            told = json.loads(self.socket.recv(timeout=60))
            if told.get("id") == number:
                assert "error" not in told, (method, told)
                return told["result"]
            self.events.append(told)

    def go(self, url: str) -> None:
        """Open a page, and wait until it is loaded."""
        self.events.clear()
        self.ask("Page.navigate", url=url)
        self.loaded()

    def loaded(self) -> None:
        """Wait for a page that is being loaded."""
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str, within_s: float = 20.0) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + within_s
        while not self.run(script):
            assert time.monotonic() < end, script
            time.sleep(0.02)

    def type(self, text: str) -> None:
        """Type letters, one after the other."""
        for letter in text:
            self.ask("Input.dispatchKeyEvent", type="keyDown", text=letter, key=letter)
            self.ask("Input.dispatchKeyEvent", type="keyUp", key=letter)

    def press(self, key: str) -> None:
        """Press a key that has a name."""
        code = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **code, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **code)

    def look(self, width: int, *, dark: bool = False, height: int = 900) -> None:
        """Give the page a width, as of a phone or of a desk, in light or dark."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def shot(self, file: Path, *, whole: bool = True) -> None:
        """Write a picture of the page."""
        made = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(made["data"]))

    def complaints(self) -> list[str]:
        """What the browser said of the page: errors, and what a policy has blocked."""
        found = []
        for event in self.events:
            params = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            if event["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(params["entry"]["text"])
        return found

    def axe(self) -> tuple[list[Any], int]:
        """What axe-core finds wrong in the page, with the markup, and how many rules it passes."""
        assert AXE is not None
        self.run(f"{AXE.read_text(encoding='utf-8')}; 0")
        wrong, passed = self.run(
            "axe.run(document).then(r => [r.violations.map(v => [v.id, "
            "v.nodes.map(n => n.html)]), r.passes.length])"
        )
        return wrong, passed

    def asked_for(self) -> set[str]:
        """The addresses that the page has loaded."""
        sent = (e for e in self.events if e["method"] == "Network.requestWillBeSent")
        return {e["params"]["request"]["url"] for e in sent}


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A browser with a profile of its own in a folder, which ends with the block."""
    assert CHROMIUM is not None
    profile = folder / "profile"
    process = subprocess.Popen(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--hide-scrollbars", "--remote-debugging-port=0",
         f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        told, end = profile / "DevToolsActivePort", time.monotonic() + 60
        while not told.exists() or not told.read_text(encoding="utf-8").strip():
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.05)
        port = told.read_text(encoding="utf-8").split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            pages = json.load(answer)
        where = next(p["webSocketDebuggerUrl"] for p in pages if p["type"] == "page")
        with connect(where, max_size=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        process.wait(timeout=30)
