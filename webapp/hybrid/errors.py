"""Every error the orchestrator raises, in one tree; `code` is what a program may branch on, the message is for a person.

    HybridError
    +-- CallerError            the caller's mistake: raised before any provider is touched, never retried, never sent elsewhere
    |   +-- MessageError       the messages are malformed
    |   +-- OptionError        an option is unknown or out of range
    |   +-- UnknownModelError  nobody here can run that model
    +-- Aborted                a person's or a program's stop; carries the text and the usage so far
    +-- TimedOut               the request's own `timeout_ms` ran out; carries the text so far
    +-- RefusedError           a policy forbade the only way left (a private request with no local model)
    +-- UnsupportedError       no model that may be asked can do what was wanted (images, tools, a schema)
    +-- ProviderError          a provider failed
        +-- LocalError         the model in the browser
        |   +-- LocalUnavailableError   not loaded, not supported, still loading
        |   +-- EngineDiedError         its worker is gone
        +-- CloudError         the model behind the server
            +-- CloudUnavailableError   no client, browser offline, gateway not reachable
            +-- BudgetExceeded          the person's budget is spent, and it costs money
            +-- GatewayError            the gateway answered with an error envelope or a broken stream

`kind` says what a failure means for trust in the provider: only `health` counts against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from hybr.webapp.hybrid.types import Part, Usage

Kind = Literal["health", "capability", "caller", "stop", "policy"]


class HybridError(Exception):
    """The root. `text` is what had been shown before the failure, so that nothing shown is lost with the exception.

    `usage` is what the request had spent until then, where it had begun; `parts` who wrote what, struck parts included.
    """

    code = "error"
    kind: Kind = "health"

    def __init__(self, message: str, *, name: str | None = None, code: str | None = None, phase: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.name = name or type(self).__name__
        self.code = code or type(self).code
        self.phase = phase
        self.retryable = False
        self.text = ""
        self.usage: Usage | None = None
        self.parts: tuple[Part, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """`{name, message, code}`, the form in which an error crosses to JavaScript and into events."""
        return {"name": self.name, "message": self.message, "code": self.code}


class CallerError(HybridError):
    """The caller's mistake; `field` names the argument at fault."""

    code = "invalid_request"
    kind: Kind = "caller"

    def __init__(self, message: str, *, field: str = "", name: str | None = None, code: str | None = None) -> None:
        super().__init__(message, name=name, code=code, phase="validate")
        self.field = field

    def to_dict(self) -> dict[str, Any]:
        """The usual three and the field."""
        return {**super().to_dict(), "field": self.field}


class MessageError(CallerError):
    """The messages are not a conversation a model could answer."""

    code = "invalid_messages"


class OptionError(CallerError):
    """An option is unknown, of the wrong type, or out of range."""

    code = "invalid_option"


class UnknownModelError(CallerError):
    """Neither side has a model of that name."""

    code = "unknown_model"


class Aborted(HybridError):
    """The request was stopped. `text` and `usage` are what there was until then."""

    code = "aborted"
    kind: Kind = "stop"

    def __init__(self, message: str = "The request was stopped.", *, text: str = "", usage: Usage | None = None) -> None:
        super().__init__(message)
        self.text = text
        self.usage = usage


class TimedOut(HybridError):
    """The caller's own time limit passed; nobody's health suffers by it."""

    code = "timeout"
    kind: Kind = "stop"


class RefusedError(HybridError):
    """A policy forbids the only way the request could go."""

    code = "refused"
    kind: Kind = "policy"


class UnsupportedError(HybridError):
    """No model that may be asked can do what was wanted; `what` names it."""

    code = "unsupported"
    kind: Kind = "capability"

    def __init__(self, message: str, *, what: str) -> None:
        super().__init__(message)
        self.what = what

    def to_dict(self) -> dict[str, Any]:
        """The usual three and what was wanted."""
        return {**super().to_dict(), "what": self.what}


class ProviderError(HybridError):
    """A provider could not do what it was asked."""

    code = "provider_error"
    provider = ""
    reactions: tuple[str, ...] = ()

    def __init__(
        self,
        message: str,
        *,
        name: str | None = None,
        code: str | None = None,
        phase: str = "",
        kind: Kind = "health",
        retryable: bool = False,
    ) -> None:
        super().__init__(message, name=name, code=code, phase=phase)
        self.kind = kind
        self.retryable = retryable
        self.retry_after: float | None = None  # seconds, where the provider said so


class LocalError(ProviderError):
    """The local engine failed. `reactions` are the steps of `taxonomy` that may repair it, in order."""

    code = "local_error"
    provider = "local"


class LocalUnavailableError(LocalError):
    """No local model is ready."""

    code = "local_unavailable"


class EngineDiedError(LocalError):
    """The engine's worker is gone; whatever it was doing is lost."""

    code = "engine_died"


class CloudError(ProviderError):
    """The cloud side failed."""

    code = "cloud_error"
    provider = "cloud"


class CloudUnavailableError(CloudError):
    """The cloud side cannot be asked at all."""

    code = "cloud_unavailable"


class BudgetExceeded(CloudError):
    """The person's budget is spent."""

    code = "budget_exceeded"


class GatewayError(CloudError):
    """The gateway answered, with an error. `attempts` is how often it had already tried upstream."""

    code = "gateway_error"
    status = 0
    attempts = 0
