"""Fragments of HTML; every text that goes in is escaped here and nowhere else."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple


class Fragment(NamedTuple):
    """Markup that is safe to place in a page as it is."""

    text: str


Content = str | Fragment


def markup(content: Content) -> str:
    """Return the markup of a text, escaped, or of a fragment, as it is."""
    return content.text if isinstance(content, Fragment) else escape(content)


def element(tag: str, *contents: Content, cls: str = "") -> Fragment:
    """Return an element; ``cls`` is its class.

    Example:
        >>> element("p", "1 < 2", cls="note").text
        '<p class="note">1 &lt; 2</p>'
    """
    attribute = f' class="{escape(cls)}"' if cls else ""
    inner = "".join(map(markup, contents))
    return Fragment(f"<{tag}{attribute}>{inner}</{tag}>")


def joined(fragments: Iterable[Fragment]) -> Fragment:
    """Return fragments one after another, a line each."""
    return Fragment("\n".join(fragment.text for fragment in fragments))


def table(
    caption: str, header: Sequence[str], rows: Sequence[Sequence[Content]]
) -> Fragment:
    """Return a table that scrolls by itself where the window is narrow."""
    head = element("tr", *(_header_cell(text) for text in header))
    body = [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    whole = element(
        "table",
        element("caption", caption),
        element("thead", head),
        element("tbody", *body),
    )
    return element("div", whole, cls="scroll")


def pairs(rows: Iterable[tuple[str, Content]]) -> Fragment:
    """Return names and values as a description list."""
    parts = [
        element("div", element("dt", name), element("dd", value))
        for name, value in rows
    ]
    return element("dl", *parts)


def details(summary: str, *contents: Content) -> Fragment:
    """Return what is folded away until asked for."""
    return element("details", element("summary", summary), *contents)


def _header_cell(text: str) -> Fragment:
    return Fragment(f'<th scope="col">{escape(text)}</th>')
