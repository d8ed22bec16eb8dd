"""One Node process for the folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from exchange_desk import ExchangeDesk

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def desk() -> Iterator[ExchangeDesk]:
    """The page's modules."""
    desk = ExchangeDesk()
    yield desk
    desk.close()
