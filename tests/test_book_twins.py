"""A page as Markdown: what a program that reads the book is given."""

from __future__ import annotations

from rope_book.twins import markdown

BODY = """
<section id="a"><h1>A page<a class="headerlink" href="#a">#</a></h1>
<p>Let <span class="math notranslate nohighlight"><math>
<annotation encoding="application/x-tex">a_1 &lt; b_1^*</annotation></math>a*b</span>, see
<a class="reference internal" href="02_b.html#equation-c" title="all of it">(2.1)</a> and
<a class="reference external" href="https://example.org/x.html">x</a>.</p>
<div class="math notranslate nohighlight" id="equation-eq-1">
<span class="eqno">(3.4)<a class="headerlink" href="#equation-eq-1">#</a></span>
<math>
<annotation encoding="application/x-tex">\\begin{split} a_i &amp;= b \\\\ c &amp;= d \\end{split}</annotation></math>
<span>a*b</span></div>
<div class="highlight-ipython3 notranslate"><div class="highlight"><pre><span></span>x_1 <b>*</b> y
</pre></div></div>
<div class="output text_html"><div class="rope-moving"><style>.a{}</style>
<svg role="img" aria-label="Two hands"><text>q</text></svg>
<div class="side"><label>m<input type="range"></label><p>Score: 0.5</p></div></div><script>draw()</script></div>
<figure><a class="rope-enlarge" href="i.svg"><img alt="A line." src="i.svg"></a>
<figcaption><p>Figure 3.1 Up.</p></figcaption></figure>
<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td>2</td></tr></tbody></table></section>
"""


def test_a_page_is_text_with_its_formulas_code_and_tables():
    text = markdown(BODY)
    assert text.startswith("# A page\n\nLet $a_1 < b_1^*$, see\n[(2.1)](02_b.md#equation-c)")
    assert "[x](https://example.org/x.html)" in text
    assert "$$\n\\begin{split} a_i &= b \\\\ c &= d \\end{split} \\tag{3.4}\n$$" in text
    assert "```python\nx_1 * y\n```" in text
    assert "| a | b |\n| --- | --- |\n| 1 | 2 |" in text
    assert "[Picture: A line.]" in text
    assert "Figure 3.1 Up." in text


def test_a_moving_figure_is_what_it_says_without_its_controls():
    text = markdown(BODY)
    assert "*Figure: Two hands*" in text
    assert "Score: 0.5" in text
    assert not any(part in text for part in ("draw()", ".a{}", "<svg", "<label", "headerlink"))
