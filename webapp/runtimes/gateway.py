"""The server's gateway as a cloud runtime."""

from __future__ import annotations


class Gateway:
    """Signatures first."""
