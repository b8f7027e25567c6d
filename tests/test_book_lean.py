"""The theme's style sheets without what no page uses."""

from __future__ import annotations

import pytest

from rope_book.lean import icons, joined, pruned, words

USED = {"a", "open"}


@pytest.mark.parametrize(
    ("css", "kept"),
    [
        (".a{x:1}.b{x:2}", ".a{x:1}"),
        (".a,.b,p{x:1}", ".a,p{x:1}"),
        (".a .b{x:1}", ""),
        ("p:not(.b),.a:is(.b,.c){x:1}", "p:not(.b),.a:is(.b,.c){x:1}"),
        ("p:not(:is(.b,.c)) .d{x:1}", ""),
        ("@media print{.b{x:1}.a{x:2}}@media all{.b{x:1}}", "@media print{.a{x:2}}"),
        ('@charset "x;{";@font-face{src:url(a;b.c)}', '@charset "x;{";@font-face{src:url(a;b.c)}'),
        ("@keyframes k{from{x:0}to{x:1}}", "@keyframes k{from{x:0}to{x:1}}"),
        ('[data-x=".b"]{content:"}.b{"}', '[data-x=".b"]{content:"}.b{"}'),
        (r".a\:b{x:1}.bs-tooltip-auto{x:1}", r".a\:b{x:1}.bs-tooltip-auto{x:1}"),
        ("/* .a{} */ .open { x: 1 }", ".open{x: 1}"),
    ],
)
def test_a_rule_goes_where_it_needs_a_class_that_nobody_has(css, kept):
    assert pruned(css, USED) == kept


def test_a_class_stands_in_a_page_or_in_a_script():
    page = '<p class="one two-three">four</p><script>box.className = "five six";</script>'
    found = words([page], ["let seven = 'a-b';"])
    assert {"one", "two-three", "five", "six", "seven", "a-b"} <= found
    assert "four" not in found


def test_an_icon_is_what_a_rule_writes():
    assert icons(r'.i{--fa:"\f0c9"}.j::before{content: "\f185"}.k::after{content:"\201c"}') == {
        0xF0C9,
        0xF185,
    }


def test_one_style_sheet_stands_for_several():
    link = '<link rel="stylesheet" href="../_static/{}?v=1" />\n'
    script = '<script src="../_static/documentation_options.js?v=2"></script>'
    before = "".join(link.format(name) for name in ("a.css", "styles/b.css", "mine.css")) + script
    after = joined(before, {"a.css", "styles/b.css"}, "const X = 1;\n")
    one = link.format("styles/together.css").replace("?v=1", "")
    assert after == one + link.format("mine.css") + "<script>const X = 1;</script>"
    assert joined(after, {"a.css", "styles/b.css"}, "const X = 1;") == after
