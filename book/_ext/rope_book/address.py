"""Where the book lives: its repository and its address, and what search engines and lost visitors find there.

All of it is known where GITHUB_REPOSITORY is set, as in the workflow. A copy built elsewhere names no address.
"""

from __future__ import annotations

import os
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

MISSING = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>No such page · {title}</title>
<link rel="icon" href="{base}_static/favicon.svg">
<body style="max-width: 40rem; margin: 15vh auto; padding: 0 1rem; font: 1.1rem/1.6 system-ui, sans-serif">
<h1>There is no such page</h1>
<p>It may have moved. <a href="{base}{root}" style="color: inherit">{title}</a>
has the list of chapters and a search box.</p>
</body>
</html>
"""


def repository(config: Config) -> str:
    """owner/name on GitHub, from the workflow or the configuration; "" where the book has no address yet."""
    return str(os.environ.get("GITHUB_REPOSITORY") or config.rope_book_repository)


def base_url(config: Config) -> str:
    """Where GitHub serves the branch gh-pages of the repository; "" without one."""
    owner, _, name = repository(config).lower().partition("/")
    if not name:
        return ""
    home = f"{owner}.github.io"
    return f"https://{home}/" if name == home else f"https://{home}/{repository(config).split('/')[1]}/"


def _use(app: Sphinx, config: Config) -> None:
    if repository(config):
        config.html_baseurl = config.html_baseurl or base_url(config)
        config.html_theme_options |= {
            "repository_url": f"https://github.com/{repository(config)}",
            "repository_branch": "main",
            "use_repository_button": True,
            "use_issues_button": True,
        }


def _write(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.name != "html":
        return
    out, base = Path(app.outdir), app.config.html_baseurl
    root = app.builder.get_target_uri(app.config.root_doc)
    missing = MISSING.format(title=app.config.html_title, base=base, root=root)
    (out / "404.html").write_text(missing, encoding="utf-8")
    robots = "User-agent: *\nAllow: /\n"
    if base:
        pages = "".join(
            f"<url><loc>{base}{app.builder.get_target_uri(name)}</loc></url>\n"
            for name in sorted(app.env.found_docs)
        )
        sitemap = '<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
        (out / "sitemap.xml").write_text(f"{sitemap}{pages}</urlset>\n", encoding="utf-8")
        robots += f"Sitemap: {base}sitemap.xml\n"
    (out / "robots.txt").write_text(robots, encoding="utf-8")


def setup(app: Sphinx) -> None:
    app.add_config_value("rope_book_repository", "", "html", str)
    app.connect("config-inited", _use, priority=100)  # before the theme reads its options
    app.connect("build-finished", _write)
