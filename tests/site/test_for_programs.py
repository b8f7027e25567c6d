"""What the site holds for programs: a Markdown twin of every page, their list, and every check."""

from __future__ import annotations

import json
import re
from urllib.parse import urldefrag

from pages import SITE, TEXTS


def test_every_page_has_a_twin_that_its_head_names_and_the_list_has():
    listed = re.findall(r"\]\(([^)]+\.md)\)", (SITE / "llms.txt").read_text("utf-8"))
    assert sorted(listed) == sorted(name.replace(".html", ".md") for name in TEXTS)
    for name in TEXTS:
        page, twin = (SITE / name).read_text("utf-8"), SITE / name.replace(".html", ".md")
        text = twin.read_text("utf-8")
        assert f'<link rel="alternate" type="text/markdown" href="{twin.name}"' in page, name
        assert text.startswith("# "), name
        assert not re.search(r"\\\(|<script|<svg|headerlink", text), name


def test_links_between_twins_lead_somewhere():
    for name in TEXTS:
        twin = SITE / name.replace(".html", ".md")
        for target in re.findall(r"\]\((?!\w+:|#)([^)\s]+\.md)(?:#[^)\s]*)?\)", twin.read_text("utf-8")):
            assert (twin.parent / target).resolve().is_file(), f"{name}: {target}"


def test_the_claims_are_the_ledger_and_lead_to_their_equations():
    claims = json.loads((SITE / "claims.json").read_text("utf-8"))
    ledger = (SITE / "book/ledger.html").read_text("utf-8")
    said = re.search(r"([\d,]+) checks passed", ledger)
    assert said
    assert len(claims) == int(said[1].replace(",", ""))
    pages = {name: (SITE / name).read_text("utf-8") for name in {urldefrag(c["page"]).url for c in claims}}
    for claim in claims:
        url, anchor = urldefrag(claim["page"])
        assert claim["label"], claim
        assert claim["code"], claim
        assert claim["kind"] in {"equal", "at most", "exact"}, claim
        assert not anchor or f'id="{anchor}"' in pages[url], claim["page"]
        assert bool(claim["equation"]) == bool(claim["latex"]) == bool(anchor), claim["label"]
