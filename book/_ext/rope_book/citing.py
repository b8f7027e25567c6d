"""Citations as a notebook can carry them: "Su et al. (2021)" with a link, and the list of what was cited."""

from __future__ import annotations

import re
from typing import Any

from pybtex.database import Entry
from pybtex.plugin import find_plugin


class Citations:
    """The citations of one notebook.

    Args:
        entries: of BibTeX, by key.
    """

    def __init__(self, entries: dict[str, Entry]) -> None:
        self.entries = entries
        self.cited: list[str] = []

    def __call__(self, role: str, keys: str) -> str:
        """What `{cite:t}` and `{cite:p}` stand for; a key that is not known stays as it is."""
        found = [key.strip() for key in keys.split(",")]
        self.cited += [key for key in found if key in self.entries and key not in self.cited]
        if role == "cite:t":
            return " and ".join(self._one(key, "{} ({})") for key in found)
        return f"({'; '.join(self._one(key, '{} {}') for key in found)})"

    def _one(self, key: str, form: str) -> str:
        if key not in self.entries:
            return key
        entry = self.entries[key]
        text = form.format(_authors(entry), entry.fields.get("year", "no year"))
        address = _address(entry)
        return f"[{text}]({address})" if address else text

    def references(self) -> str:
        """The cited works in full, by author, as a Markdown list; "" where nothing was cited."""
        style = find_plugin("pybtex.style.formatting", "unsrt")()
        markdown = find_plugin("pybtex.backends", "markdown")()
        in_order = sorted(self.cited, key=lambda key: (_authors(self.entries[key]).lower(), key))
        lines = []
        for entry in style.format_entries([self.entries[key] for key in in_order]):
            text = entry.text.render(markdown)
            lines.append("- " + re.sub(r"\\([-.!+()#])", r"\1", " ".join(text.split())))
        return "\n".join(lines)


def _authors(entry: Entry) -> str:
    people = entry.persons.get("author", [])
    names = [" ".join(str(part) for part in [*p.rich_prelast_names, *p.rich_last_names]) for p in people]
    if not names:
        return str(entry.fields.get("title", ""))
    if len(names) > 2 or names[-1] == "others":
        return f"{names[0]} et al."
    return " and ".join(names)


def _address(entry: Entry) -> str:
    fields: Any = entry.fields
    if "url" in fields:
        return str(fields["url"])
    if "doi" in fields:
        return f"https://doi.org/{fields['doi']}"
    return f"https://arxiv.org/abs/{fields['eprint']}" if "eprint" in fields else ""
