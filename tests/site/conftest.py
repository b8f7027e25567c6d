"""The built site in a real browser: served on loopback, read by Debian's Chromium with its scrollbars shown.

Run by `make site-test` after `make book`, not by `make test`. ROPE_SITE names another folder than _build/html.
"""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator

import pytest
from pages import FROM_DISK, PAGES, SCREENS, SITE, Visit, open_page
from playwright.sync_api import Browser, BrowserContext, sync_playwright

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ("--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update")


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def pytest_sessionstart() -> None:
    if not PAGES:
        pytest.exit(f"there is no site in {SITE}: run `make book` first", returncode=2)


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    handler = functools.partial(Handler, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    assert program, f"none of {', '.join(CHROMIUM)} is installed; on Debian: apt-get install chromium"
    with sync_playwright() as playwright:
        # Playwright hides scrollbars, and with them the fault of a bar under each formula.
        yield playwright.chromium.launch(
            executable_path=program, args=QUIET, ignore_default_args=["--hide-scrollbars"]
        )


@pytest.fixture(scope="session")
def screens(browser: Browser) -> dict[str, BrowserContext]:
    return {name: browser.new_context(**screen) for name, screen in SCREENS.items()}


@pytest.fixture
def visit(address: str, screens: dict[str, BrowserContext]) -> Iterator[Callable[[str, str], Visit]]:
    """Opens a page on a screen and waits for its fonts."""
    opened = []

    def go(name: str, screen: str = "desktop") -> Visit:
        where = f"{SITE.resolve().as_uri()}/" if screen == FROM_DISK else address
        opened.append(open_page(screens[screen], where, name))
        return opened[-1]

    yield go
    for each in opened:
        each.page.close()
