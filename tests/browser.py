"""A headless Chromium, spoken to over two pipes (the Chrome DevTools protocol), without any package.

    with Browser(find()) as browser:
        page = browser.open("file:///.../index.html", width=390, dark=True)
        page.complaints                                # script errors, resources that did not load
        page.ask("document.title")
"""
from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def find() -> str | None:
    """The Chromium to use: MINICV_CHROMIUM, or the first on the path; None if there is none."""
    names = [os.environ.get("MINICV_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome", "chrome"]
    return next((path for path in map(shutil.which, filter(None, names)) if path), None)


@dataclasses.dataclass
class Page:
    """A page that is open: where it is, and what the browser complained of while it loaded."""

    browser: Browser
    session: str
    address: str
    complaints: list[str] = dataclasses.field(default_factory=list)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = self.browser.call("Runtime.evaluate", self.session, expression=expression, returnByValue=True,
                                   awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 60) -> Any:
        """The value of an expression, as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.ask(expression)):
            if time.monotonic() > end:
                raise TimeoutError(f"{self.address}: {expression} stayed {value!r}")
            time.sleep(0.1)
        return value

    def picture(self, path: Path) -> None:
        """Write what is in the window as a PNG."""
        data = self.browser.call("Page.captureScreenshot", self.session, format="png")["data"]
        path.write_bytes(base64.b64decode(data))


class Browser:
    """One Chromium process, in a profile of its own that is removed at the end."""

    def __init__(self, path: str):
        self.profile = tempfile.mkdtemp()
        to_browser, self.output = os.pipe()
        self.input, from_browser = os.pipe()
        # Chromium reads from file descriptor 3 and writes to 4: put the pipes there (by way of 98 and 99, as one of
        # them may be 3 or 4 already), then become Chromium.
        place = ("import os, sys; a, b = map(int, sys.argv[1:3]); os.dup2(a, 98); os.dup2(b, 99); os.dup2(98, 3); "
                 "os.dup2(99, 4); os.closerange(98, 100); os.execv(sys.argv[3], sys.argv[3:])")
        command = [sys.executable, "-c", place, str(to_browser), str(from_browser), path, "--headless=new",
                   "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions", "--hide-scrollbars",
                   "--host-resolver-rules=MAP * ~NOTFOUND",  # no network, whatever a page asks for
                   f"--user-data-dir={self.profile}", "--remote-debugging-pipe", "about:blank"]
        self.process = subprocess.Popen(command, pass_fds=(to_browser, from_browser), stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.number, self.rest, self.pages = 0, b"", {}

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self.call("Browser.close")
        self.process.wait(60)
        os.close(self.output)
        os.close(self.input)
        shutil.rmtree(self.profile, ignore_errors=True)

    def receive(self) -> dict[str, Any]:
        """The next message; what it says of a page is noted there."""
        while b"\0" not in self.rest:
            more = os.read(self.input, 1 << 16)
            if not more:
                raise RuntimeError("Chromium has ended")
            self.rest += more
        text, _, self.rest = self.rest.partition(b"\0")
        message = json.loads(text)
        page = self.pages.get(message.get("sessionId"))
        if page and "method" in message:
            self.note(page, message["method"], message["params"])
        return message

    @staticmethod
    def note(page: Page, method: str, params: dict[str, Any]) -> None:
        """Keep a message if it is a complaint."""
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            page.complaints.append(f"script error: {details.get('exception', {}).get('description', details['text'])}")
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            page.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            page.complaints.append(f"console: {[a.get('value', a.get('description')) for a in params['args']]}")

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Ask the browser, and wait for its answer."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.output, data):]
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def open(self, address: str, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        """Open a page in a window of this size and wait until it has loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session, address)
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable", session)
        self.call("Emulation.setDeviceMetricsOverride", session, width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", session,
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.call("Page.navigate", session, url=address)
        page.wait_for(f"document.readyState === 'complete' && location.href !== 'about:blank' && {json.dumps(address)}")
        return page

    def close(self, page: Page) -> None:
        """Close a page."""
        target = self.call("Target.getTargetInfo", page.session)["targetInfo"]["targetId"]
        self.call("Target.closeTarget", targetId=target)
        del self.pages[page.session]
