"""Stand-in for nh3 in the page: clean HTML by an allow-list, on the standard library's parser.

Contract: `clean(html)` returns markup that holds only harmless tags and attributes; anything else is dropped, script and
style with their contents. The shell sanitises what it shows with DOMPurify; this is for Panel's own panes.
"""

from __future__ import annotations

from html import escape
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

_TAGS = """a abbr b blockquote br caption code dd del details div dl dt em h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q s
small span strike strong sub summary sup table tbody td tfoot th thead tr tt u ul var"""
ALLOWED_TAGS = frozenset(_TAGS.split())
ALLOWED_ATTRIBUTES: dict[str, set[str]] = {
    "a": {"href", "title"},
    "img": {"src", "alt", "title", "width", "height"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan", "scope"},
}
ALLOWED_URL_SCHEMES = frozenset({"http", "https", "mailto"})
_WITH_CONTENTS = {"script", "style", "template", "iframe", "object", "svg", "math", "noscript", "textarea", "title"}
_VOID = {"br", "hr", "img"}
_ADDRESSES = {"href", "src"}


def clean(
    html: str,
    tags: AbstractSet[str] | None = None,
    attributes: Mapping[str, AbstractSet[str]] | None = None,
    link_rel: str | None = "noopener noreferrer",
    **_: Any,
) -> str:
    """Return `html` with only the allowed tags and attributes; `link_rel` is set on every link unless None."""
    cleaner = _Cleaner(ALLOWED_TAGS if tags is None else tags, ALLOWED_ATTRIBUTES if attributes is None else attributes, link_rel)
    cleaner.feed(html)
    cleaner.close()
    return "".join(cleaner.out) + "".join(f"</{tag}>" for tag in reversed(cleaner.open))


def clean_text(text: str) -> str:
    """Return `text` with everything that is markup made visible."""
    return escape(text)


class _Cleaner(HTMLParser):
    """Writes again what is allowed, balanced."""

    def __init__(self, tags: AbstractSet[str], attributes: Mapping[str, AbstractSet[str]], link_rel: str | None) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.link_rel = tags, attributes, link_rel
        self.out: list[str] = []
        self.open: list[str] = []
        self.silent = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.silent or tag not in self.tags:
            self.silent = self.silent or (tag if tag in _WITH_CONTENTS else "")
            return
        allowed = self.attributes.get(tag, set()) | self.attributes.get("*", set())
        kept = [(name, value or "") for name, value in attrs if name in allowed and _harmless(name, value or "")]
        if tag == "a" and self.link_rel is not None:
            kept.append(("rel", self.link_rel))
        text = "".join(f' {name}="{escape(value)}"' for name, value in kept)
        self.out.append(f"<{tag}{text}>")
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.silent:
            self.silent = "" if tag == self.silent else self.silent
        elif tag in self.open:
            while (last := self.open.pop()) != tag:
                self.out.append(f"</{last}>")
            self.out.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.out.append(escape(data, quote=False))


def _harmless(name: str, value: str) -> bool:
    """Tell whether an attribute may stay: an address must be relative or of an allowed scheme."""
    if name not in _ADDRESSES:
        return True
    plain = "".join(letter for letter in value if letter > " ").lower()
    scheme, colon, _ = plain.partition(":")
    return not colon or "/" in scheme or "#" in scheme or "?" in scheme or scheme in ALLOWED_URL_SCHEMES
