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


@dataclass(frozen=True, slots=True)
class Desk:
    """See the module. `now` in seconds since 1970."""

    events: EventBus
    account: Account
    now: Callable[[], float] = time.time
    attention: Attention = field(default_factory=Attention)
