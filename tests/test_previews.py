"""The cards of links: what is cut out of a page, and what is left out of it."""

from __future__ import annotations

from rope_book import previews

ROOM = (
    '<article class="bd-article"><section id="one"><h1>One<a class="headerlink rope-wrong" href="x">Wrong?</a></h1>'
    "<p>First <a href='b.html'>words</a>.</p><p>Second.</p>"
    '<div class="math" id="equation-e"><span class="eqno">(1.1)</span><div>x</div></div>'
    '<span id="early"></span><section id="two"><h2>Two</h2><p>Of two.</p></section>'
    '<dl><dt id="term-a">term</dt><dd><p class="rope-used">Used.</p><p>Bases: x</p><p>Meaning.</p><p>More.</p>'
    "</dd></dl>"
    '<figure id="fig"><img src="../_images/a.svg" id="inner"/><figcaption>Caption</figcaption></figure>'
    '<script id="s">1</script></section></article>'
)


def made(anchor: str) -> str:
    return previews.card(previews.article(ROOM), anchor)


def test_a_card_is_the_whole_of_an_equation_or_figure_and_the_opening_of_the_rest() -> None:
    assert made("equation-e") == '<div class="math"><span class="eqno">(1.1)</span><div>x</div></div>'
    assert made("") == made("one") == "<p><strong>One</strong></p><p>First words.</p>"
    assert made("early") == made("two") == "<p><strong>Two</strong></p><p>Of two.</p>"
    assert made("term-a") == "<p><strong>term</strong></p><p>Meaning.</p>"
    assert 'id="' not in made("fig")
    assert made("nothing") == ""


def test_the_cards_of_a_page_are_those_that_some_page_links_to() -> None:
    link = '<a class="reference internal" href="{}">x</a>'
    pages = {
        "notebooks/a": previews.article(ROOM),
        "book/b": "".join(
            map(link.format, ("../notebooks/a.html#fig", "../_modules/c.html", "#none", "b.html"))
        ),
    }
    found = previews.cards(pages)
    assert set(found) == {"notebooks/a", "book/b"}
    assert list(found["notebooks/a"]) == ["fig"]
    assert 'data-src="_images/a.svg"' in found["notebooks/a"]["fig"], (
        "the path begins at the root of the site"
    )
    assert "none" not in found["book/b"]
