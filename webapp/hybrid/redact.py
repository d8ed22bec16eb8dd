"""Takes personal data out of what goes to the cloud, and puts it back into the answer.

Found are e-mail addresses, phone numbers, payment cards (Luhn), IBANs (ISO 13616's remainder of 97), IP addresses, keys and
tokens. Each value becomes a placeholder such as `[EMAIL_1]`, the same value always the same one, so that the answer still makes
sense; in the answer the placeholders become the values again. What is not found goes out as it is: names, addresses, and
anything whose form is not one of these. The tests measure how much on a labelled set.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.types import Message

_KEYS = (
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"  # a JSON web token
    r"|\b(?:sk|pk|rk)[-_][\w-]{16,}|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"
    r"|\bxox[abprs]-[\w-]{10,}|\bAKIA[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\bhf_\w{20,}|\bnpm_\w{20,}"
    r"|(?i:(?<=bearer )|(?<=basic ))[\w.~+/=-]{12,}"
)
_AFTER_ITS_NAME = (
    r"(?i:\b(?:password|passwd|pwd|secret|token|api[_-]?key|access[_-]?key)\b[\"']?\s*(?:[:=]|\bis\b)\s*)"
    r"(?:\"([^\"\n]{6,200})\"|'([^'\n]{6,200})'|[\"']?([^\s\"',;]{6,}))"  # in quotes with its blanks, else one word
)


def luhn(text: str) -> bool:
    """Whether the digits of a card number check (ISO/IEC 7812-1)."""
    digits = [int(char) for char in text if char.isdigit()]
    if not 13 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = [sum(divmod(digit * 2, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def iban(text: str) -> bool:
    """Whether an IBAN checks: moved, spelt in numbers, it leaves 1 when divided by 97 (ISO 13616)."""
    plain = text.replace(" ", "").upper()
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(char, 36)) for char in plain[4:] + plain[:4])) % 97 == 1


def address(text: str) -> bool:
    """Whether it is an IP address; `a::b` in a program is none that anybody has."""
    if not any(char.isdigit() for char in text):
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def isbn(text: str) -> bool:
    """Whether it is a book's number (ISO 2108): 13 digits from 978 or 979, whose weighted sum is a multiple of ten."""
    digits = [int(char) for char in text if char.isdigit()]
    return len(digits) == 13 and text[:3] in {"978", "979"} and (sum(digits[::2]) + 3 * sum(digits[1::2])) % 10 == 0


def phone(text: str) -> bool:
    """Whether it looks like a telephone number: 8 to 15 digits, marked as one by a plus, a zero or its grouping; no date."""
    digits = sum(char.isdigit() for char in text)
    date = re.fullmatch(r"\d{1,3}(?:\.\d{1,3}){3}|\d{4}[-/. ]\d{1,2}[-/. ]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}", text)
    if isbn(text):
        return False
    grouped = text[0] in "+(0" or len(re.findall(r"[ ()./-]+", text)) >= 2
    return 8 <= digits <= 15 and grouped and not date


_ALWAYS: Callable[[str], bool] = lambda _: True  # noqa: E731 - a constant of the table below
# In this order: what an earlier rule took, a later one does not see.
RULES: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("KEY", re.compile(_KEYS, re.DOTALL), _ALWAYS),
    ("SECRET", re.compile(_AFTER_ITS_NAME), _ALWAYS),
    ("EMAIL", re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+@[\w-]+(?:\.[\w-]+)+"), _ALWAYS),
    ("IBAN", re.compile(r"\b[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]{4}){2,7}(?: ?[A-Za-z0-9]{1,3})?\b"), iban),
    ("CARD", re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d.]\d)"), luhn),
    (
        "IP",
        re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?![\w:]|\.\d)"),
        address,
    ),
    ("PHONE", re.compile(r"(?<![\w.+])(?<!\d[ -])(?:\+|\(|00)?\d(?:[ ()./-]{0,2}\d){7,14}(?!\w|[ ()/-]{0,2}\d)"), phone),
)
_PLACEHOLDER = re.compile(r"\[[A-Z]+_\d+\]")
_OPEN = re.compile(r"\[[A-Z]*(?:_\d*)?$")


class Redactor:
    """One request's redaction: what was taken out, by placeholder."""

    def __init__(self) -> None:
        self._by_value: dict[str, str] = {}
        self._by_placeholder: dict[str, str] = {}
        self._held = ""

    @property
    def counts(self) -> dict[str, int]:
        """How many different values of each kind were taken out."""
        return dict(Counter(name[1:].split("_")[0] for name in self._by_placeholder))

    def messages(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """The messages without what was found. Pictures are left: nothing here reads them."""
        taken = set(_PLACEHOLDER.findall(str(messages)))  # a caller's own text may look like a placeholder
        return tuple({**message, "content": self._content(message.get("content"), taken)} for message in messages)

    def _content(self, content: Any, taken: set[str]) -> Any:
        if isinstance(content, str):
            return self._text(content, taken)
        if isinstance(content, list):
            return [{**part, "text": self._text(part["text"], taken)} if part.get("type") == "text" else part for part in content]
        return content

    def _text(self, text: str, taken: set[str]) -> str:
        for kind, pattern, check in RULES:
            text = pattern.sub(lambda found, kind=kind, check=check: self._take(found, kind, check, taken), text)  # type: ignore[misc]
        return text

    def _take(self, found: re.Match[str], kind: str, check: Callable[[str], bool], taken: set[str]) -> str:
        whole, value = found.group(), found.group(found.lastindex or 0)
        if not check(value) or value in self._by_placeholder:
            return whole
        name = self._by_value.get(value) or self._new_name(kind, taken)
        self._by_value[value], self._by_placeholder[name] = name, value
        return whole.replace(value, name)

    def _new_name(self, kind: str, taken: set[str]) -> str:
        number = 1
        while (name := f"[{kind}_{number}]") in self._by_placeholder or name in taken:
            number += 1
        return name

    def restore(self, delta: str) -> str:
        """A piece of the answer with the values back in; a placeholder that may not be whole yet is held back."""
        text = self._held + delta
        start = _OPEN.search(text)
        self._held = text[start.start() :] if start else ""
        return self._back(text[: len(text) - len(self._held)])

    def flush(self) -> str:
        """What is still held back at the end."""
        held, self._held = self._held, ""
        return held

    def _back(self, text: str) -> str:
        return _PLACEHOLDER.sub(lambda found: self._by_placeholder.get(found.group(), found.group()), text)
