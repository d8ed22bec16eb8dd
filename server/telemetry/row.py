"""One row of telemetry: words out of closed lists, numbers in bounds, and nothing else. There is no field for free text.

A row comes from the relay (source gateway, one an answer) or from a page whose person switched telemetry on (source page).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from hybr.server.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Container

EVENTS = ("complete", "fallback", "handover", "error")
DEVICES = ("server", "webgpu", "webgpu-software", "wasm", "none", "unknown")
# What an answer's end was called by the relay or the page (their errors' codes), in the few words that are counted.
ERRORS = {
    "none": (),
    "caller": ("invalid_request", "invalid_value", "unsupported", "refused_by_provider", "refused_by_model", "content_filter"),
    "context": ("context_length_exceeded", "context_overflow"),
    "denied": ("key_refused", "quota", "bad_certificate", "private_address", "refused", "egress_refused"),
    "limited": ("rate_limited", "overloaded", "limit_requests", "limit_tokens", "limit_streams", "spend_day", "spend_month"),
    "timeout": ("timeout", "stream_stalled"),
    "unreachable": ("unreachable", "connection_broken", "gateway_unreachable", "offline"),
    "broken": ("stream_cut", "stream_broken", "bad_answer", "bad_stream", "answer_too_large", "failed_midway", "provider_failed"),
    "unavailable": ("no_model", "house_unavailable", "house_crashed", "house_failed", "breaker_open", "server_stopping"),
    "gone": ("client_gone", "aborted"),
    "device": ("no_webgpu", "device_lost", "out_of_memory", "engine_died", "local_not_loaded", "local_loading"),
    "other": (),
}
KIND = {code: kind for kind, codes in ERRORS.items() for code in codes}
OTHER = "other"
LONGEST = 24 * 3600 * 1000  # milliseconds
MOST = 10**8  # tokens
FIELDS = ("event", "provider", "model", "device", "error", "latency", "ttft", "prompt", "completion", "rate")


class Row(NamedTuple):
    """See the module. `latency` and `ttft` are milliseconds, `rate` tokens a second; None is unknown."""

    owner: str
    at: float
    source: str
    event: str
    provider: str
    model: str
    device: str
    error: str
    latency: int | None = None
    ttft: int | None = None
    prompt: int | None = None
    completion: int | None = None
    rate: float | None = None
    attempts: int | None = None


def kind_of(code: str | None) -> str:
    """Return the counted word for an error's code."""
    return "none" if code is None else code if code in ERRORS else KIND.get(code, OTHER)


def whole(field: str, value: Any, most: int) -> int | None:
    """Return a whole number from 0 to `most`, None for none. Raises RequestError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= most:
        raise RequestError(f"{field} must be a number from 0 to {most}", field=field)
    return round(value)


def word(field: str, value: Any, words: Container[str], default: str) -> str:
    """Return one of `words`; what is missing is `default`. Raises RequestError, which does not repeat what it was given."""
    if value is None:
        return default
    if not isinstance(value, str) or value not in words:
        raise RequestError(f"{field} is none of its words", field=field)
    return value


def from_page(where: str, body: Any, owner: str, now: float, known: Container[str]) -> Row:
    """Return the row of one event as a page sends it. Raises RequestError.

    `known` are the names of models and providers that may be stored; any other is stored as "other".
    """
    if not isinstance(body, dict) or not set(body) <= set(FIELDS):
        raise RequestError(f"{where} must be an object with some of {', '.join(FIELDS)}", code="unknown_field", field=where)
    named = {field: body.get(field) for field in ("provider", "model", "error")}
    for field, value in named.items():
        if value is not None and (not isinstance(value, str) or len(value) > 200):
            raise RequestError(f"{where}.{field} must be a short text", field=f"{where}.{field}")
    rate = body.get("rate")
    return Row(
        owner,
        now,
        "page",
        word(f"{where}.event", body.get("event"), EVENTS, "complete"),
        listed(named["provider"], known),
        listed(named["model"], known),
        word(f"{where}.device", body.get("device"), DEVICES, "unknown"),
        kind_of(named["error"]),
        whole(f"{where}.latency", body.get("latency"), LONGEST),
        whole(f"{where}.ttft", body.get("ttft"), LONGEST),
        whole(f"{where}.prompt", body.get("prompt"), MOST),
        whole(f"{where}.completion", body.get("completion"), MOST),
        None if whole(f"{where}.rate", rate, 10**6) is None else float(rate),  # type: ignore[arg-type]
    )


def listed(name: str | None, known: Container[str]) -> str:
    """Return a name that the server knows itself, "other" for any other."""
    return name if name is not None and name in known else OTHER
