"""The pages of the built site, the screens they are looked at on, and a visit to one."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Page

SITE = Path(os.environ.get("ROPE_SITE") or Path(__file__).parents[2] / "_build" / "html")
TEXTS = sorted(
    path.relative_to(SITE).as_posix()
    for folder in ("book", "notebooks")
    for path in (SITE / folder).rglob("*.html")
)
# Those that Sphinx makes by itself, one of the sources it shows, and the page for wrong addresses.
MADE = ("genindex.html", "search.html", "py-modindex.html", "404.html")
MADE += ("_modules/index.html", "_modules/rope_lab/encodings/rotary.html")
PAGES = [*TEXTS, *(name for name in MADE if (SITE / name).exists())]


def _screen(width: int, height: int, scale: int, scheme: str) -> dict[str, Any]:
    viewport = {"width": width, "height": height}
    return {"viewport": viewport, "device_scale_factor": scale, "color_scheme": scheme}


SCREENS = {
    "desktop": _screen(1280, 900, 1, "light"),
    "dark": _screen(1280, 900, 1, "dark"),
    "phone": _screen(390, 844, 2, "light"),
    "small": _screen(360, 740, 2, "dark"),
}

FROM_DISK = "small"  # this screen reads each page as a file, as from a folder that was downloaded


@dataclass
class Visit:
    """A page as one screen shows it, and what went wrong on the way."""

    page: Page
    errors: list[str] = field(default_factory=list)


def open_page(context: BrowserContext, address: str, name: str) -> Visit:
    page = context.new_page()
    visit = Visit(page)
    page.on("pageerror", lambda error: visit.errors.append(f"error: {error}"))
    page.on("console", lambda said: _note(visit, said.type == "error", f"console: {said.text}"))
    page.on("requestfailed", lambda request: visit.errors.append(f"failed: {request.url}"))
    page.on("response", lambda reply: _note(visit, reply.status >= 400, f"{reply.status}: {reply.url}"))
    ours = (address, "file:", "data:", "blob:")
    page.on("request", lambda sent: _note(visit, not sent.url.startswith(ours), f"elsewhere: {sent.url}"))
    page.goto(address + name, wait_until="load")
    page.evaluate("() => document.fonts.ready.then(() => null)")
    return visit


def _note(visit: Visit, wrong: bool, what: str) -> None:
    if wrong:
        visit.errors.append(what)
