"""How much redaction finds and what it misses, measured: recall by kind, and harmless text taken by mistake, on a labelled set.

The set is made with a fixed seed: values of each kind in the forms that people write, hard ones included, in sentences of several
languages, in code, in JSON, in logs. The figures are the test's properties (`--junitxml`), and are printed with `-s`.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

from hybr.webapp.hybrid.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable

EACH = 300
LEAK = 4  # characters of a value that still stand in what leaves count as a miss
# Recall that is promised. Missed are telephone numbers that nothing marks as such, and secrets of several words without quotes.
PROMISED = {"EMAIL": 0.97, "PHONE": 0.85, "CARD": 0.99, "IBAN": 0.99, "IP": 0.97, "KEY": 0.97, "SECRET": 0.8}
FRAMES = (
    "{}",
    "Please use {} for that.",
    "Meine Angabe ist {}, danke!",
    "C'est {} ; merci",
    '{{"value": "{}", "n": 1}}',
    "user={} action=login",
    "> {}\n> and so on",
    "({})",
)
HARMLESS = (
    "On 2024-11-22 at 12:30:45 we had 1,234,567 visitors and 3.14159 pies.",
    "See pages 100-120 of volume 12, ISBN 978-3-16-148410-0, or RFC 9110.",
    "for i in range(10): x[1:2] = a @ b",
    "The chapter 192.168 is about 10.5 and version 2.0.1 of the library.",
    "I do not know the token economy, and the secret of life is 42.",
    "commit 3f57ad0e2b1c4d5e6f708192a3b4c5d6e7f80912",
    "uuid 123e4567-e89b-12d3-a456-426614174000",
    "The order number is 12345678, from 2020 to 2024.",
)
WORDS = ("ada", "bob.smith", "o'neil", "li-wei", "maria_jose", "x+tag", "jürgen", "a")
HOSTS = ("example.com", "mail.example.co.uk", "sub-domain.example.org", "bücher.example", "x.io")


def digits(dice: random.Random, count: int) -> str:
    """So many digits, the first not 0."""
    return str(dice.randint(1, 9)) + "".join(str(dice.randint(0, 9)) for _ in range(count - 1))


def card(dice: random.Random) -> str:
    """A number that checks (Luhn), grouped as cards are."""
    body = dice.choice(["4", "51", "37"]) + digits(dice, 13)
    body = body[:15] if body[0] != "3" else body[:14]
    total = sum(sum(divmod(int(digit) * (2 if index % 2 == 0 else 1), 10)) for index, digit in enumerate(reversed(body)))
    number = body + str(-total % 10)
    return dice.choice(["", " ", "-"]).join(number[start : start + 4] for start in range(0, len(number), 4))


def iban(dice: random.Random) -> str:
    """An account that checks (ISO 13616), in one piece or in fours."""
    country, count = dice.choice([("DE", 18), ("FR", 23), ("GB", 0), ("NL", 0)])
    account = digits(dice, count) if count else "WEST" + digits(dice, 14 if country == "GB" else 10)
    spelt = "".join(str(int(char, 36)) for char in account + country + "00")
    whole = f"{country}{98 - int(spelt) % 97:02}{account}"
    return dice.choice([whole, " ".join(whole[start : start + 4] for start in range(0, len(whole), 4))])


def address(dice: random.Random) -> str:
    """IPv4 or IPv6."""
    four = ".".join(str(dice.randint(1, 254)) for _ in range(4))
    groups = [f"{dice.randint(1, 65535):x}" for _ in range(8)]
    return dice.choice([four, ":".join(groups), ":".join(groups[:3]) + "::" + groups[7]])


def phone(dice: random.Random) -> str:
    """As people write them; the last forms have nothing that marks them as telephone numbers."""
    area, first, last = digits(dice, 3), digits(dice, 3), digits(dice, 4)
    marked = [f"+1 ({area}) {first}-{last}", f"+49 {area} {first}{last}", f"0{area}/{first}{last}", f"00{area}{first}{last}"]
    grouped = [f"{area}-{first}-{last}", f"({area}) {first} {last}", f"+{area}{first}{last}"]
    return dice.choice([*marked, *grouped, f"{area}{first}{last}"])


def key(dice: random.Random) -> str:
    """Keys and tokens by their makers' forms. Built from parts, so that a scanner of repositories does not take them for real."""
    letters = "".join(dice.choice("ABCDEFGHJKMNPQRSTUVWXYZabcdefghjk23456789") for _ in range(36))
    forms = [
        "sk" + "-" + letters,
        "gh" + "p_" + letters,
        "AK" + "IA" + letters[:16].upper(),
        "xox" + "b-" + letters,
        "hf" + "_" + letters,
    ]
    return dice.choice([*forms, "eyJ" + letters[:12] + "." + letters[:20] + "." + letters, "AIza" + letters[:35]])


def secret(dice: random.Random) -> tuple[str, str]:
    """A value after its name, and the whole; passwords with blanks in them are the hard ones."""
    value = dice.choice(["hunter2!", "Tr0ub4dor&3", "p@ss-w0rd", "zZ9#kL2$qq", "correct horse battery"])
    return value, dice.choice(["password: {}", "pwd={}", "my secret is {}", 'api_key = "{}"', "access_key:{}"]).format(value)


MAKERS: dict[str, Callable[[random.Random], str | tuple[str, str]]] = {
    "EMAIL": lambda dice: f"{dice.choice(WORDS)}{dice.randint(1, 99)}@{dice.choice(HOSTS)}",
    "PHONE": phone,
    "CARD": card,
    "IBAN": iban,
    "IP": address,
    "KEY": key,
    "SECRET": secret,
}


def measure(kind: str, dice: random.Random) -> tuple[float, Counter[str]]:
    """The share of values that are gone from what leaves, and the forms (letters x, digits 9) of those that are not."""
    found, missed = 0, Counter[str]()
    for _ in range(EACH):
        made = MAKERS[kind](dice)
        value, told = made if isinstance(made, tuple) else (made, made)
        (sent,) = Redactor().messages(({"role": "user", "content": dice.choice(FRAMES).format(told)},))
        gone = not any(word in sent["content"] for word in value.split() if len(word) >= LEAK)
        found += gone
        if not gone:
            missed["".join("9" if char.isdigit() else "x" if char.isalpha() else char for char in value)] += 1
    return found / EACH, missed


def test_recall_by_kind(record_property: Callable[[str, object], None]) -> None:
    """Each kind is found as often as is promised; the figures and the forms that are missed are told."""
    dice = random.Random(20261122)  # noqa: S311 - a fixed set, not a secret
    for kind, promised in PROMISED.items():
        recall, missed = measure(kind, dice)
        record_property(f"recall_{kind}", recall)
        print(f"{kind}: {recall:.3f}; missed: {dict(missed.most_common(3))}")
        assert recall >= promised, f"{kind}: {recall:.3f}, missed {missed.most_common(5)}"


def test_harmless_text_is_left_alone(record_property: Callable[[str, object], None]) -> None:
    """Dates, versions, hashes, code and counts go out as they are."""
    taken = [text for text in HARMLESS if Redactor().messages(({"role": "user", "content": text},))[0]["content"] != text]
    record_property("harmless_taken", len(taken))
    assert taken == []
