"""The server's errors: one tree, each made to be read by the person who gets it.

    HybrError
    ├── ConfigError          a flag or variable that cannot be used           (exit 2)
    ├── PortTakenError            the address is in use                            (exit 1)
    ├── BuildError          the page bundle could not be built               (exit 1)
    ├── RequestError           400: the caller's mistake, names the field
    │   ├── NotFoundError         404
    │   ├── ConflictError         409: someone else wrote first
    │   └── TooLargeError         413
    ├── UnauthorizedError         401: no credential, or none that holds
    ├── RefusedError              403: another site's page, or a host we do not answer for
    ├── LimitError           429: this server's own limit for the caller, with Retry-After and RateLimit headers
    └── UpstreamError        502: who we asked failed
        ├── UnavailableError      503: not there yet, try again
        ├── SlowUpstreamError          504
        ├── LimitedError          429: the provider's limit, with its Retry-After
        └── DeniedError           502: the operator must mend it (key, quota, address), trying again does not

On the wire each is `{"error": {"type", "code", "message", "field"?, "retryable", "attempts"}}`. Nothing in a message may come
unread from an upstream: its text can hold a key or markup.
"""

from __future__ import annotations

from typing import Any, ClassVar


class HybrError(Exception):
    """A failure with a message for a person and, where there is one, the remedy.

    `code` is for programs and never changes; `status` is the HTTP answer, `exit` the command's exit code; `retryable`
    says whether the same call may succeed later, `attempts` how often the server already tried.
    """

    type: ClassVar[str] = "server_error"
    status: ClassVar[int] = 500
    exit: ClassVar[int] = 1
    retryable: ClassVar[bool] = False
    retry_after: int | None = None  # seconds, where whoever refused said it
    provider: str = ""  # who was asked last
    breaker: str = ""  # what that one's breaker does now: closed, open, half-open
    request: str = ""  # the request's id

    def __init__(
        self, message: str, *, code: str, field: str | None = None, remedy: str | None = None, attempts: int = 0
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.field = field
        self.remedy = remedy
        self.attempts = attempts

    def headers(self) -> dict[str, str]:
        """Return the response headers that belong to this error."""
        return {} if self.retry_after is None else {"retry-after": str(self.retry_after)}

    def envelope(self) -> dict[str, Any]:
        """Return the wire form."""
        text = f"{self.message}. {self.remedy}" if self.remedy else self.message
        error: dict[str, Any] = {"type": self.type, "code": self.code, "message": text}
        if self.field is not None:
            error["field"] = self.field
        error |= {"retryable": self.retryable, "attempts": self.attempts}
        if self.retry_after is not None:
            error["retry_after"] = self.retry_after
        told = {"provider": self.provider, "breaker": self.breaker, "request_id": self.request}
        return {"error": error | {name: value for name, value in told.items() if value}}


class ConfigError(HybrError):
    """A flag, variable or file that cannot be used."""

    exit = 2

    def __init__(self, message: str, *, field: str, remedy: str) -> None:
        super().__init__(message, code="bad_config", field=field, remedy=remedy)


class PortTakenError(HybrError):
    """Another program listens on the address."""

    def __init__(self, host: str, port: int) -> None:
        other = port + 1000 if port < 64000 else 8080
        remedy = f"Stop that program, or take another port: `make run PORT={other}` (or `hybr serve --port {other}`)"
        super().__init__(f"port {port} on {host} is taken by another program", code="port_taken", field="port", remedy=remedy)


class BuildError(HybrError):
    """The page bundle could not be built."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="build_failed", remedy="See the lines above; `hybr page build` runs this step alone")


class RequestError(HybrError):
    """The caller's mistake: never retried, never sent elsewhere."""

    type = "invalid_request_error"
    status = 400

    def __init__(self, message: str, *, code: str = "invalid_value", field: str | None = None) -> None:
        super().__init__(message, code=code, field=field)


class NotFoundError(RequestError):
    """No such thing; the message says what there is."""

    status = 404


class ConflictError(RequestError):
    """The version the caller started from is not the newest."""

    type = "conflict_error"
    status = 409


class TooLargeError(RequestError):
    """More bytes than the server takes."""

    status = 413


class UnauthorizedError(HybrError):
    """Whoever asks is not known. One text for every reason: which it was is nobody's business who is not known."""

    type = "authentication_error"
    status = 401

    def __init__(self) -> None:
        remedy = "Open the link that the server printed at its start, log in, or send an API token as Authorization: Bearer"
        super().__init__("this server does not know you", code="unauthorized", remedy=remedy)

    def headers(self) -> dict[str, str]:
        """Return the header that 401 must have (RFC 9110, 11.6.1)."""
        return {"www-authenticate": "Bearer"}


class RefusedError(HybrError):
    """A request that another site's page made, or for a host name that is not ours."""

    type = "permission_error"
    status = 403


class LimitError(HybrError):
    """The caller has used up what this server gives them; nobody was asked on their behalf.

    `rate` is the standing of the limits, as the value of the header `RateLimit`, and `policy` that of `RateLimit-Policy`.
    """

    type = "rate_limit_error"
    status = 429

    def __init__(
        self, message: str, *, code: str, retry_after: int | None, rate: str = "", policy: str = "", remedy: str | None = None
    ) -> None:
        super().__init__(message, code=code, remedy=remedy)
        self.retryable = retry_after is not None  # type: ignore[misc]  # for one that no waiting helps
        self.retry_after = retry_after
        self.rate = rate
        self.policy = policy

    def headers(self) -> dict[str, str]:
        """Return the headers that say when to come back and how much there is (draft-ietf-httpapi-ratelimit-headers-10)."""
        limits = {"ratelimit-policy": self.policy, "ratelimit": self.rate} if self.rate else {}
        return super().headers() | limits


class UpstreamError(HybrError):
    """Whoever we asked on the caller's behalf failed."""

    type = "upstream_error"
    status = 502
    retryable = True


class UnavailableError(UpstreamError):
    """It cannot answer now but may soon."""

    type = "unavailable_error"
    status = 503


class SlowUpstreamError(UpstreamError):
    """It took longer than we wait."""

    type = "timeout_error"
    status = 504


class LimitedError(UpstreamError):
    """The provider takes no more requests for a while."""

    type = "rate_limit_error"
    status = 429


class DeniedError(UpstreamError):
    """The provider will go on refusing until the operator changes something."""

    retryable = False
