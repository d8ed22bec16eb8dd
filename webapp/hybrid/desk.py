"""What all requests of a page share: where events go, where spending is booked, the wall clock, whether anybody looks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hybr.webapp.hybrid.patience import Attention

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybr.webapp.hybrid.account import Account
    from hybr.webapp.hybrid.events import EventBus
    from hybr.webapp.hybrid.types import Provider


@dataclass(frozen=True, slots=True)
class Desk:
    """See the module. `now` in seconds since 1970.

    `quote(model, prompt tokens, completion tokens)` is what the cloud would take for it, in dollars, as far as prices are known;
    `asked(provider)` is told of each attempt that is made here.
    """

    events: EventBus
    account: Account
    now: Callable[[], float] = time.time
    attention: Attention = field(default_factory=Attention)
    quote: Callable[[str | None, int, int], float | None] = lambda *_: None
    asked: Callable[[Provider], object] = lambda _: None
