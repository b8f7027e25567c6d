"""The book's Sphinx extension, on small books of its own: what it publishes, and what it refuses to build."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import nbformat
import pytest
import yaml

from rope_book import silence_future_typing

silence_future_typing()
ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = Path(sysconfig.get_path("scripts"))

CHAPTER = """\
# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # 03 A chapter
#
# See {eq}`norm` and {numref}`wave`, {cite:t}`su2021`, chapter 3, {doc}`/book/ledger` and chapter 4 {cite:p}`press2022`.
#
# A line may end at chapter
# 9 of a book.
#
# $$ |e^{i \\theta} x| = |x| $$ (norm)

# %%
from rope_lab.verify import check, check_exact

check("eq. 3.1", [1.0, 2.0], [1.0, 2.0])
check("a mean", 0.5, 0.51, tolerance=0.07, reason="sampling", draws=300)
for t in range(3):
    check(f"eq. 3.1, t = {t}", t, t)

# %% mystnb={"image": {"alt": "A line"}, "figure": {"caption": "Up: {eq}`norm` {cite:p}`su2021`.", "name": "wave"}}
import matplotlib.pyplot as plt

plt.figure(figsize=(1, 1)).add_subplot().plot([0, 1]);

# %% [markdown]
# See {ref}`ex-03-1`, {ref}`sol-03-2` and {ref}`the first <ex-03-1>`.
#
# ```{exercise-start}
# :label: ex-03-1
# ```
#
# Print it, see {eq}`norm`.

# %%
print("your turn")

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-03-1
# :label: sol-03-1
# ```
#
# By equation {eq}`norm`.

# %%
print("solved")

# %% [markdown]
# ```{solution-end}
# ```
#
# ````{exercise} Derive or refute
# :label: ex-03-2
#
# Is it so?
# ````
#
# ````{solution} ex-03-2
# :label: sol-03-2
#
# It is, by {eq}`norm`.
# ````
"""


def book(
    folder: Path, chapters: dict[str, str], quoted: str = "eq. 3.1", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Build a book of these chapters, strictly, with this book's own configuration; no warning counts by halves."""
    (folder / "book").mkdir(exist_ok=True)
    (folder / "notebooks").mkdir(exist_ok=True)
    for name in ("_ext", "_static", "_templates", "references.bib"):
        if not (folder / "book" / name).exists():
            (folder / "book" / name).symlink_to(ROOT / "book" / name)
    if not (
        folder / "rope_lab"
    ).exists():  # a copy, so that an edit in the middle of a test run changes no cache key
        shutil.copytree(ROOT / "rope_lab", folder / "rope_lab", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements.txt", "_config.yml"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    rows = "\n".join(f"| {name[:2]} | Titled |" for name in chapters)
    table = f"| Part I | The idea |\n|---|---|\n{rows}\n| 20 | Planned |"
    welcome = f"# Welcome\n\n```{{checked}} {quoted}\n```\n\n```{{chapter-map}}\n{table}\n```\n"
    welcome += "\n```{moving-figure} turning\n```\n\n```{offers}\n"
    welcome += "".join(f":{name}: book/ledger\n" for name in ("read", "colab", "package")) + "```\n"
    (folder / "book" / "index.md").write_text(welcome, encoding="utf-8")
    (folder / "book" / "ledger.md").write_text(
        "# Ledger\n\n```{ledger}\n```\n\n```{bibliography}\n```\n", encoding="utf-8"
    )
    for name, text in chapters.items():
        (folder / "notebooks" / f"{name}.py").write_text(text, encoding="utf-8")
    files = [f"notebooks/{name}" for name in chapters] + ["book/ledger"]
    contents = {"format": "jb-book", "root": "book/index", "chapters": [{"file": file} for file in files]}
    (folder / "_toc.yml").write_text(yaml.safe_dump(contents), encoding="utf-8")
    command = [SCRIPTS / "jupyter-book", "build", "-W", "-n", "--keep-going", folder]
    kept = {name: value for name, value in os.environ.items() if name != "GITHUB_REPOSITORY"}
    return subprocess.run(command, env={**kept, **environment}, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("book")
    done = book(folder, {"03_chapter": CHAPTER}, GITHUB_REPOSITORY="owner/name", GITHUB_SHA="abc123")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_numbers_by_chapter(built):
    page = (built / "_build/html/notebooks/03_chapter.html").read_text(encoding="utf-8")
    assert "(3.1)" in page
    assert "Figure 3.1" in page


def test_the_page_asks_no_other_host_for_its_mathematics(built):
    page = (built / "_build/html/notebooks/03_chapter.html").read_text(encoding="utf-8")
    assert '<span class="katex-display"><span class="katex"><span class="katex-mathml"><math ' in page
    assert 'encoding="application/x-tex">|e^{i \\theta} x| = |x|<' in page
    served = built / "_build/html/_static/katex"
    assert 'href="../_static/katex/katex.min.css"' in page
    fonts = re.findall(r"url\((fonts/[^)]+)\)", (served / "katex.min.css").read_text(encoding="utf-8"))
    assert len(fonts) == 20
    assert all((served / name).is_file() for name in fonts)
    assert "mathjax" not in "".join(re.findall(r"<script[^>]*>", page)).lower()
    assert 'src="http' not in page


def test_the_ledger_lists_the_check_and_links_its_equation(built):
    page = (built / "_build/html/book/ledger.html").read_text(encoding="utf-8")
    assert 'href="../notebooks/03_chapter.html#equation-norm"' in page
    assert "eq. 3.1" in page
    assert re.search(
        r'<section id="chapter-3">\s*<h2><a [^>]*href="../notebooks/03_chapter.html">03 A chapter</a>', page
    )
    assert "5 checks passed in 1 chapter." in page
    assert "2e-12, rounding" in page
    assert "7e-02, sampling" in page
    assert "2 values" in page
    assert "300 draws" in page
    assert "eq. 3.1, t = 2" in page


def test_the_welcome_page_quotes_a_line_of_this_build(built):
    page = (built / "_build/html/book/index.html").read_text(encoding="utf-8")
    assert "✓ eq. 3.1: max |difference| 0 over 2 values, float64" in page


def test_the_map_of_the_welcome_page_links_what_is_there(built):
    page = (built / "_build/html/book/index.html").read_text(encoding="utf-8")
    drawn = page[page.index("<svg") : page.index("</svg>")]
    assert re.findall(r'<a href="(.*?)"', drawn) == ["../notebooks/03_chapter.html"]
    assert re.search(r'class="chapter planned">[^a]*<tspan class="number">20</tspan> Planned', drawn)
    assert "<table" not in page


def test_the_executed_notebook_is_published_and_linked(built):
    page = (built / "_build/html/notebooks/03_chapter.html").read_text(encoding="utf-8")
    assert 'href="03_chapter.ipynb"' in page
    assert (
        "https://colab.research.google.com/github/owner/name/blob/gh-pages/notebooks/03_chapter.ipynb" in page
    )
    binder = (
        "https://mybinder.org/v2/gh/owner/name/gh-pages?urlpath=lab%2Ftree%2Fnotebooks%2F03_chapter.ipynb"
    )
    assert f'href="{binder}"' in page


def test_binder_finds_what_to_install(built):
    folder = built / "_build/html/binder"
    needs = (folder / "requirements.txt").read_text().splitlines()
    torch = importlib.metadata.version("torch").partition("+")[0]
    assert needs[1:] == [
        f"torch=={torch}+cpu",
        "rope-lab[book,keras] @ git+https://github.com/owner/name@abc123",
    ]
    assert (folder / "runtime.txt").read_text() == "python-3.11\n"


@pytest.fixture
def published(built) -> nbformat.NotebookNode:
    notebook = nbformat.read(built / "_build/html/notebooks/03_chapter.ipynb", as_version=4)
    nbformat.validate(notebook)
    return notebook


def test_a_published_notebook_stands_alone(published):
    setup, text, check, _, caption, *_, works = published.cells
    assert "package = 'rope-lab[book] @ git+https://github.com/owner/name@abc123'" in setup.source
    assert (
        "See (3.1) and Figure 3.1, [Su et al. (2021)](https://arxiv.org/abs/2104.09864), chapter 3"
        in text.source
    )
    assert "[Ledger](https://owner.github.io/name/book/ledger.html)" in text.source
    assert "([Press et al. 2022](https://arxiv.org/abs/2108.12409))" in text.source
    assert r"\tag{3.1}" in text.source
    assert check.outputs[0].data["text/plain"].startswith("✓ eq. 3.1")
    assert check.outputs[2].data["text/html"].startswith('<details class="rope-checks">')
    assert caption.source.startswith("**Figure 3.1.** Up: (3.1) ([Su et al. 2021](")
    assert "A line" in caption.source
    first, second = works.source.splitlines()[2:]
    assert first.startswith("- Ofir Press, Noah A. Smith, and Mike Lewis. Train short")
    assert second.startswith("- Jianlin Su, ")


def test_what_the_page_folds_is_folded_in_the_notebook(published):
    _, _, check, figure, _, _, answer, _, solution, *_ = published.cells
    assert answer.source == 'print("your turn")'
    assert "jupyter" not in answer.metadata
    assert solution.metadata.jupyter == {"source_hidden": True, "outputs_hidden": True}
    assert solution.metadata.cellView == "form"
    assert solution.source.splitlines() == ["# @title Solution 3.1", 'print("solved")']
    assert "jupyter" not in check.metadata
    assert "jupyter" not in figure.metadata


def test_exercises_have_numbers_and_their_solutions_are_folded(built):
    page = (built / "_build/html/notebooks/03_chapter.html").read_text(encoding="utf-8")
    assert 'href="#ex-03-1"><span class="std std-numref">Exercise 3.1</span>' in page
    assert 'href="#sol-03-2"><span class="std std-ref">Solution 3.2</span>' in page
    assert re.search(
        r'id="ex-03-1">\s*<p class="admonition-title"><span class="caption-number">Exercise 3.1', page
    )
    assert "(Derive or refute)" in page
    folds = re.findall(r'<details class="[^"]*" id="([^"]*)">\s*<summary>(.*?)</summary>', page)
    titles = [f'<span class="admonition-title">Solution 3.{n}</span>' for n in (1, 2)]
    assert folds == list(zip(("sol-03-1", "sol-03-2"), titles, strict=True))
    fold = page[page.index('id="sol-03-1"') : page.index('id="ex-03-2"')]
    assert "solved" in fold  # the cell is inside
    assert "your turn" not in fold
    ids = re.findall(r' id="([^"]+)"', page)
    assert sorted(ids) == sorted(set(ids))


def test_an_exercise_is_plain_in_a_published_notebook(published):
    text = "\n".join(cell.source for cell in published.cells if cell.cell_type == "markdown")
    assert "### Exercise 3.1\n\nPrint it, see (3.1)." in text
    assert "### Solution 3.1\n\nBy equation (3.1)." in text
    assert "### Exercise 3.2 (Derive or refute)\n\nIs it so?" in text
    assert "<details><summary>Solution 3.2</summary>\n\nIt is, by (3.1).\n\n</details>" in text
    assert "See [Exercise 3.1](https://owner.github.io/name/notebooks/03_chapter.html#ex-03-1)" in text
    assert "{" not in text.replace(r"\tag{3.1}", "").replace("e^{i", "")
    assert all(cell.source for cell in published.cells)


def test_jupyterlab_with_jupytext_opens_a_published_notebook(published, built, tmp_path):
    pytest.importorskip("jupyter_server")
    from jupyter_server.services.contents.largefilemanager import LargeFileManager
    from jupytext.sync_contentsmanager import build_sync_jupytext_contents_manager_class

    shutil.copy(built / "_build/html/notebooks/03_chapter.ipynb", tmp_path)
    manager = build_sync_jupytext_contents_manager_class(LargeFileManager)()
    manager.root_dir = str(tmp_path)
    opened = manager.get("03_chapter.ipynb")
    assert [cell["id"] for cell in opened["content"]["cells"]] == [cell.id for cell in published.cells]
    manager.save(opened, "03_chapter.ipynb")


def test_a_change_of_prose_runs_nothing_and_loses_nothing(built, tmp_path):
    """Text and caption changed, and no repository known: outputs from the cache, a download and no Colab button."""
    folder = tmp_path / "again"
    shutil.copytree(built, folder, symlinks=True)
    done = book(
        folder, {"03_chapter": CHAPTER.replace("# See", "# Now see").replace("Up:", "It still rises:")}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Executed notebook" not in done.stdout
    page = (folder / "_build/html/notebooks/03_chapter.html").read_text(encoding="utf-8")
    assert "Now see" in page
    assert "It still rises" in page
    assert 'href="03_chapter.ipynb"' in page
    assert "colab" not in page.lower()
    assert "binder" not in page.lower()
    assert "eq. 3.1" in (folder / "_build/html/book/ledger.html").read_text(encoding="utf-8")
    notebook = nbformat.read(folder / "_build/html/notebooks/03_chapter.ipynb", as_version=4)
    setup, text, check, *_ = notebook.cells
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ModuleNotFoundError, match="make lab"):
            exec(setup.source, {})
    assert "Now see" in text.source
    assert "chapter 3, Ledger and chapter 4 (planned)" in text.source
    assert check.outputs[0].data["text/plain"].startswith("✓ eq. 3.1")


def test_a_figure_is_a_link_to_itself_and_keeps_its_words(built):
    page = (built / "_build/html/notebooks/03_chapter.html").read_text(encoding="utf-8")
    (file, words), *others = re.findall(
        r'<a class="rope-enlarge" href="([^"]*)"[^>]*><img [^>]*alt="([^"]*)"', page
    )
    assert words == "A line"
    assert not others
    assert (built / "_build/html/notebooks" / file).is_file()
    assert len(re.findall(r"<img [^>]*_images/", page)) == 1
    assert re.search(r'<script defer="defer" src="../_static/enlarge.js', page)
    assert (built / "_build/html/_static/enlarge.js").is_file()


def test_faults_fail_the_build(tmp_path):
    chapters = {
        "01_silent": "# %% [markdown]\n# # 01 Checks nothing\n\n# %%\n1 + 1\n",
        "02_twice": CHAPTER.replace("# 03", "# 02")
        .replace("(norm)", "(norm2)")
        .replace("`norm`", "`norm2`")
        .replace("-03-", "-02-")
        .replace("sol-02-1", "sol-02-one"),
        "03_chapter": CHAPTER.replace('"image": {"alt": "A line"}, ', "")
        .replace("wave", "wave3")
        .replace(
            "plot([0, 1])", "imshow([[hash(i) % 9973 * j % 101 for i in range(900)] for j in range(900)])"
        )
        .replace("figsize=(1, 1)", "figsize=(9, 9)")
        .replace("ex-03-2", "ex-03-7"),
    }
    done = book(tmp_path, chapters, quoted="eq. 9.9")
    assert done.returncode != 0
    assert "the chapter checks nothing" in done.stderr
    assert "already names a check" in done.stderr
    assert "names an equation that this page does not have" in done.stderr
    assert "has no alt text" in done.stderr
    assert "too heavy for a page" in done.stderr
    assert "exercise 3.2 has the label ex-03-7" in done.stderr
    assert "a solution must have the label sol-02-1, got sol-02-one" in done.stderr
    assert "no chapter has a check with the label 'eq. 9.9'" in done.stderr


def test_a_failing_check_fails_the_build(tmp_path):
    done = book(tmp_path, {"03_chapter": CHAPTER.replace("[1.0, 2.0])", "[1.0, 2.5])")})
    assert done.returncode != 0
    assert "CheckFailed" in done.stdout + done.stderr


def test_a_page_says_what_it_is_and_where_it_lives(built):
    page = (built / "_build/html/notebooks/03_chapter.html").read_text(encoding="utf-8")
    home = "https://owner.github.io/name"
    assert f'<link rel="canonical" href="{home}/notebooks/03_chapter.html" />' in page
    assert '<meta name="description" content="See ' in page
    assert '<meta property="og:title" content="03 A chapter" />' in page
    assert 'href="https://github.com/owner/name"' in page
    assert 'href="https://github.com/owner/name/issues/new' in page
    assert page.count('name="viewport"') == 1
    assert "chapter 4 (planned)" in page
    assert "chapter\n9 (planned) of a book" in page
    assert f"<loc>{home}/book/ledger.html</loc>" in (built / "_build/html/sitemap.xml").read_text("utf-8")
    assert f"Sitemap: {home}/sitemap.xml" in (built / "_build/html/robots.txt").read_text("utf-8")
    assert f'href="{home}/book/index.html"' in (built / "_build/html/404.html").read_text("utf-8")
    assert (built / "_build/html/_static/cards/notebooks_03_chapter.png").stat().st_size < 40_000
    assert "_static/cards/notebooks_03_chapter.png" in page
    assert re.search(r"Build%3A\+abc123.*/owner/name/edit/main/notebooks/03_chapter.py", page, re.DOTALL)
    assert '<a href="../book/ledger.html">5 checks passed</a>' in page


def test_a_page_loads_only_what_it_uses(built):
    page = (built / "_build/html/notebooks/03_chapter.html").read_text(encoding="utf-8")
    for name in ("fontawesome.js", "thebe", "togglebutton", "sphinx-design", "design-tabs"):
        assert name not in page.lower()
    assert "copybutton.js" in page
    image = re.search(r"<img [^>]*>", page)[0]
    assert 'loading="lazy"' in image
    assert re.search(r'width="\d+" height="\d+"', image)


def test_the_ledger_has_an_outline(built):
    page = (built / "_build/html/book/ledger.html").read_text(encoding="utf-8")
    assert re.search(r'<a class="[^"]*nav-link[^"]*" href="#chapter-3">03 A chapter</a>', page)
