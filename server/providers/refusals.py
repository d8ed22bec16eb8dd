"""What a provider's refusal becomes: one of our errors, with the provider's words only where they help and hold no secret.

The words of a 400 tell the caller which field to change, so they pass, redacted and cut. Those of all others do not: a 401
quotes the key, a 5xx is a page of markup, and none of them is the caller's to mend.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from hybr.server.errors import (
    DeniedError,
    HybrError,
    LimitedError,
    NotFoundError,
    RequestError,
    SlowUpstreamError,
    TooLargeError,
    UnavailableError,
    UpstreamError,
)
from hybr.server.secret import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hybr.server.secret import Secret

KEY_WORDS = ("api_key_invalid", "api key not valid", "invalid_api_key", "api key expired")  # Gemini says it with a 400
FULL = ("context_length", "context window", "maximum context", "prompt is too long", "exceeds the maximum number of tokens")
FILTERED = {400: ("content_filter", "content management policy", "content_policy"), 403: ("moderation", "flagged")}
FAULTS = 5  # of which a refusal tells
QUOTA = ("insufficient_quota", "billing", "credit balance")
LONGEST_DATE = 100_000  # seconds; further off it is a mistake
LONGEST_WAIT = 3600  # seconds; a longer Retry-After is no hint but a refusal


def refusal(name: str, status: int, headers: Mapping[str, str], raw: bytes, key: Secret | None) -> HybrError:
    """Return the error for an answer of `name` that is not a 200."""
    said, kinds = words(raw)
    lower = f"{said} {kinds}".lower()
    if any(word in lower for word in FILTERED.get(status, ())):  # the 403 is OpenRouter's, the 400 Azure's
        text = f"{name} does not take this content: {redact(said, key)}"
        return RequestError(text, code="content_filter", field="messages")
    if status in {401, 403} or (status == 400 and any(word in lower for word in KEY_WORDS)):
        return DeniedError(f"{name} refused the key that this server has for it", code="key_refused", attempts=1)
    if status == 402 or any(word in lower for word in QUOTA):
        return DeniedError(f"{name} says that its account is out of credit or quota", code="quota", attempts=1)
    if status in {429, 498, 503, 529}:  # 498 is Groq's word for a full house
        return wait(name, status, headers)
    if status in {408, 504}:
        return SlowUpstreamError(f"{name} did not answer in time", code="timeout", attempts=1)
    if status == 404:
        return NotFoundError(f"{name} has no such model", code="model_not_found", field="model")
    if status == 413:
        return TooLargeError(f"the request is larger than {name} takes", code="body_too_large")
    if status in {400, 409, 422}:
        if any(word in lower for word in FULL):
            text = f"the conversation is longer than the model's window: {redact(said, key)}"
            return RequestError(text, code="context_length_exceeded", field="messages")
        return RequestError(f"{name} refused the request: {redact(said, key) or f'status {status}'}", code="refused_by_provider")
    if 300 <= status < 400:
        return DeniedError(f"{name} answered with a redirect, which is not followed", code="redirected", attempts=1)
    return UpstreamError(f"{name} failed with status {status}", code="provider_failed", attempts=1)


def wait(name: str, status: int, headers: Mapping[str, str]) -> UpstreamError:
    """Return the error for a provider that takes nothing now, with its Retry-After where that is sane: seconds, or a date."""
    if status == 429:
        error: UpstreamError = LimitedError(f"{name} takes no more requests for now", code="rate_limited", attempts=1)
    else:
        error = UnavailableError(f"{name} is overloaded", code="overloaded", attempts=1)
    error.retry_after = seconds(headers.get("retry-after", "").strip(), headers.get("date", ""))
    return error


def seconds(given: str, date: str) -> int | None:
    """Return what a Retry-After asks for, None where it is absent or not sane. A date counts from the provider's own `date`."""
    if given.isdecimal() and given.isascii():
        return min(int(given), LONGEST_WAIT) if len(given) < 6 else None
    try:
        until = parsedate_to_datetime(given)
        wait = (until - (parsedate_to_datetime(date) if date else datetime.now(UTC))).total_seconds()
    except (TypeError, ValueError):  # no date, or one without and one with a zone
        return None
    return min(math.ceil(wait), LONGEST_WAIT) if 0 < wait <= LONGEST_DATE else None


def words(raw: bytes) -> tuple[str, str]:
    """Return the message of a JSON error in any provider's shape, and the words by which it names the kind; empty for no JSON."""
    try:
        body: Any = json.loads(raw)
    except (ValueError, RecursionError):
        return "", ""
    body = body[0] if isinstance(body, list) and body else body
    error = body.get("error", body) if isinstance(body, dict) else None
    if isinstance(error, dict) and (said := listed(error)):
        return said, ""
    if isinstance(error, str):
        return error, ""
    if not isinstance(error, dict):
        return "", ""
    said = error.get("message") or error.get("detail") or ""
    kinds = [str(error.get(name, "")) for name in ("type", "code", "status")]
    details = error.get("details")
    kinds += [str(item.get("reason", "")) for item in details if isinstance(item, dict)] if isinstance(details, list) else []
    return said if isinstance(said, str) else "", " ".join(kinds)


def listed(error: dict[str, Any]) -> str:
    """Return what a list of faults says, as FastAPI writes it (Mistral, vLLM): which field, and what of it."""
    inner = error.get("message")
    faults = inner.get("detail") if isinstance(inner, dict) else error.get("detail")
    if not isinstance(faults, list):
        return ""
    told = []
    for fault in faults[:FAULTS]:
        if isinstance(fault, dict) and isinstance(fault.get("msg"), str):
            place = fault.get("loc")
            names = [str(name) for name in place if name != "body"] if isinstance(place, list) else []
            told.append(f"{'.'.join(names)}: {fault['msg']}" if names else fault["msg"])
    return "; ".join(told)
