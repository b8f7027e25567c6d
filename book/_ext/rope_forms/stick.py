"""rope-book.zip: the site for a memory stick, with one file at its top to open."""

from __future__ import annotations

import re
import zipfile
from html import unescape
from pathlib import Path
from posixpath import dirname, join, normpath
from urllib.parse import unquote, urldefrag

from rope_book.welcome import ROOT, offered

FOLDER = "rope-book"
WHEN = (1980, 1, 1, 0, 0, 0)  # equal sites give equal zips
LEFT_OUT = re.compile(
    r"rope-book\.(pdf|epub|zip)|(.*/)?\.[^/]*|404\.html|robots\.txt|sitemap\.xml|.*webpack-macros\.html"
)
START = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url={folder}/{page}">
<title>{title}</title>
<p><a href="{folder}/{page}">{title}</a></p>
</html>
"""
ASKED = re.compile(r"""<(?:a|img|script|link)\b[^>]*?\s(?:href|src)=["']([^"']*)["']""")


def files(site: Path) -> list[str]:
    """What goes on the stick: all of the site but its other forms and what only a web server needs."""
    found = (path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file())
    return sorted(name for name in found if not LEFT_OUT.fullmatch(name))


def pack(root: Path, site: Path, target: Path) -> Path:
    title = re.findall(r"(?m)^title: (.*)$", (root / "_config.yml").read_text(encoding="utf-8"))[0]
    start = START.format(folder=FOLDER, page=ROOT, title=title)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as stick:
        _add(stick, "index.html", start.encode())
        for name in files(site):
            content = (site / name).read_bytes()
            if name == ROOT:  # the other forms are not on the stick
                content = offered(content.decode("utf-8"), lambda address: False).encode()
            _add(stick, f"{FOLDER}/{name}", content)
    return target


def build(root: Path, site: Path) -> Path:
    """Writes rope-book.zip into the site, and checks it."""
    target = pack(root, site, site / "rope-book.zip")
    if faults := check(target):
        target.unlink()
        raise SystemExit("rope-book.zip: " + "; ".join(faults[:20]))
    return target


def _add(stick: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, WHEN)
    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    stick.writestr(info, content)


def check(target: Path) -> list[str]:
    """What a page on the stick asks for and the stick does not have, or has only with a network."""
    faults = []
    with zipfile.ZipFile(target) as stick:
        names = set(stick.namelist())
        if bad := stick.testzip():
            faults.append(f"{bad} is damaged")
        for name in sorted(name for name in names if name.endswith(".html")):
            page = re.sub(r"<a [^>]* hidden>", "", stick.read(name).decode("utf-8"))
            for asked in set(ASKED.findall(page)):
                address = urldefrag(unescape(asked)).url
                if not address or re.match(r"(https?|mailto|data|javascript):", address):
                    continue
                if normpath(join(dirname(name), unquote(address.split("?")[0]))) not in names:
                    faults.append(f"{name} asks for {asked}")
    return faults
