"""Reads what WebLLM and its browser throw and says what it means: which typed error, whose fault, and what could repair it.

One row per row of the table in the project's facts on WebLLM 0.2.86, in the order in which they are tried: the first whose name,
message and phase fit wins. Names alone do not do, because worker errors arrive as strings and many are a bare `Error:`.

Reactions, in the order to try them: `reload` the same model; a `smaller` or f32 one; `clear` that model's cache, then reload;
`refresh` the index, then reload; `evict` other models, then reload; a new `worker`; the `cloud`; `trim` the request; `prompt`
tools in words; a `simpler` schema; `retry` the same once; tell the `user`; `raise` to the caller and nothing else; `stop`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybr.webapp.hybrid.errors import Aborted, CallerError, EngineDiedError, HybridError, LocalError

if TYPE_CHECKING:
    from hybr.webapp.hybrid.errors import Kind


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of failure. `names` and `pattern` are alternatives; `phases`, when given, must fit as well."""

    code: str
    kind: Kind
    reactions: tuple[str, ...]
    names: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None
    phases: frozenset[str] = frozenset()
    remedy: str = ""

    def fits(self, name: str, message: str, phase: str) -> bool:
        """Whether this row describes the failure."""
        if self.phases and phase not in self.phases:
            return False
        return name in self.names or bool(self.pattern and self.pattern.search(message))


def _row(
    code: str,
    kind: Kind,
    reactions: str,
    names: str = "",
    *,
    pattern: str = "",
    phases: str = "",
    remedy: str = "",
) -> Row:
    return Row(
        code,
        kind,
        tuple(reactions.split()),
        frozenset(names.split()),
        re.compile(pattern, re.IGNORECASE) if pattern else None,
        frozenset(phases.split()),
        remedy,
    )


ROWS: tuple[Row, ...] = (
    _row(
        "aborted",
        "stop",
        "stop",
        "AbortError",
    ),
    _row(
        "no_such_model",
        "capability",
        "user cloud",
        "AddressError",
    ),
    _row(
        "not_cached",
        "capability",
        "user cloud",
        "ModelNotCachedError",
    ),
    _row(
        "no_webgpu",
        "capability",
        "user cloud",
        "WebGPUNotAvailableError WebGPUNotFoundError",
        pattern=r"unable to find a compatible gpu|cannot find webgpu|no gpu adapter",
        remedy="Use a browser with WebGPU, or switch it on.",
    ),
    _row(
        "adapter_limits",
        "capability",
        "cloud",
        pattern=r"cannot initialize runtime because of requested \w+ exceeds limit",
        remedy="This adapter is too small for local models; the cloud answers.",
    ),
    _row(
        "needs_f16",
        "capability",
        "smaller cloud",
        "ShaderF16SupportError FeatureSupportError",
        pattern=r"extension 'f16'|shader-f16",
        remedy="Choose the q4f32 variant of this model.",
    ),
    _row(
        "bad_shader",
        "capability",
        "smaller cloud",
        "GPUPipelineError",
        pattern=r"error while parsing wgsl|invalid shadermodule|invalid computepipeline",
        remedy="This model's kernels do not run on this adapter: choose another model.",
    ),
    _row(
        "engine_died",
        "health",
        "worker reload cloud",
        "EngineDeadError",
        pattern=r"engine worker (died|is gone)",
    ),
    _row(
        "engine_moved",
        "health",
        "worker reload cloud",
        "EngineMovedError",
    ),
    _row(
        "engine_busy",
        "capability",
        "cloud",
        "EngineBusyError",
        remedy="One model serves all tabs of this page.",
    ),
    _row(
        "out_of_memory",
        "health",
        "worker smaller cloud",
        "DeviceLostError",
        pattern=r"device (was|is) lost|out of memory",
        phases="load download",
        remedy="The graphics memory was not enough: choose a smaller model.",
    ),
    _row(
        "device_lost",
        "health",
        "worker reload cloud",
        "DeviceLostError ModelNotLoadedError EngineNotLoadedError WorkerEngineModelNotLoadedError "
        "SpecifiedModelNotFoundError ConfigurationNotInitializedError IncorrectPipelineLoadedError OperationError",
        pattern=r"already been disposed|device (was|is) lost|instance dropped|model not loaded",
        remedy="The graphics device was lost; the model has to be loaded again.",
    ),
    _row(
        "garbage",
        "health",
        "worker reload cloud",
        pattern=r"failed to sample a valid token|\bNaN\b",
    ),
    _row(
        "no_space",
        "capability",
        "evict smaller user cloud",
        "QuotaExceededError",
        pattern=r"quota|no space|artifact(indexeddb|opfs)cache failed to fetch",
        remedy="The browser has no room for this model: delete another model, free disk space, or leave the private window.",
    ),
    _row(
        "storage",
        "capability",
        "user cloud",
        "StorageError",
        remedy="Allow this page to keep files, or free disk space.",
    ),
    _row(
        "damaged_copy",
        "capability",
        "clear reload cloud",
        "IntegrityError",
        phases="load",
        remedy="Load it again.",
    ),
    _row(
        "tampered",
        "capability",
        "user cloud",
        "IntegrityError",
        pattern=r"sha-?256|integrity",
        phases="download load",
        remedy="The file is not the one that the index promises; nothing of it was kept. If it stays so, build the model again.",
    ),
    _row(
        "model_changed",
        "capability",
        "refresh reload cloud",
        "ModelFileMissingError",
        remedy="Reload the page for the new model list.",
    ),
    _row(
        "not_built",
        "capability",
        "user cloud",
        "ModelNotBuiltError ModelIncompleteError",
        remedy="Build it on the server: hybr models build.",
    ),
    _row(
        "download_failed",
        "capability",
        "reload cloud",
        "NetworkError TruncatedError HttpError",
        pattern=r"cache\.add\(\) encountered a network error|cannot fetch|network response was not ok|"
        r"failed to store|failed to fetch|truncated",
        phases="download load",
        remedy="Load again: the files that are complete are kept.",
    ),
    _row(
        "corrupt_model",
        "capability",
        "clear cloud",
        "SyntaxError CompileError LinkError",
        pattern=r"cannot find .* in exports|wasm.*(compile|link)",
        phases="download load",
        remedy="The cached model is damaged: delete it and load it again.",
    ),
    _row(
        "bad_model",
        "capability",
        "cloud",
        "ArtifactManifestError MissingModelError ModelNotFoundError UnsupportedTokenizerFilesError "
        "ConfigValueError MinValueError RangeError NonNegativeError WindowSizeConfigurationError "
        "WindowSizeSpecificationError AttentionSinkSizeError",
        phases="probe download load",
        remedy="The model's files do not fit this page: build the model again (hybr models build).",
    ),
    _row(
        "context_overflow",
        "capability",
        "trim cloud",
        "ContextWindowSizeExceededError",
        pattern=r"context window",
        remedy="Shorten the conversation.",
    ),
    _row(
        "no_vision",
        "capability",
        "cloud",
        "UserMessageContentErrorForNonVLM UnsupportedContentPartError CannotFindImageEmbedError "
        "PrefillChunkSizeSmallerThanImageError UnsupportedImageURLError UnsupportedDetailError "
        "AudioInputError",
        remedy="The local model cannot read images.",
    ),
    _row(
        "no_tools",
        "capability",
        "prompt cloud",
        "UnsupportedModelIdError CustomSystemPromptError CustomResponseFormatError",
        remedy="The local model cannot call tools.",
    ),
    _row(
        "bad_schema",
        "capability",
        "simpler cloud",
        "GrammarMatcherInitError InvalidResponseFormatError InvalidResponseFormatGrammarError "
        "InvalidResponseFormatStructuralTagError",
        remedy="Check the JSON schema.",
    ),
    _row(
        "bad_tool_call",
        "capability",
        "retry cloud",
        "ToolCallOutputParseError ToolCallOutputInvalidTypeError JSONFieldError",
    ),
    _row(
        "invalid_request",
        "caller",
        "raise",
        "RequestIdError RangeError MinValueError NonNegativeError DependencyError InvalidNumberStringError SeedTypeError "
        "StreamingCountError InvalidStreamOptionsError MessageOrderError SystemMessageOrderError "
        "UnsupportedRoleError ContentTypeError MultipleTextContentError UnsupportedFieldsError "
        "InvalidToolChoiceError FunctionNotFoundError UnsupportedToolTypeError "
        "TextCompletionExpectsKVEmptyError TextCompletionConversationExpectsPrompt "
        "TextCompletionConversationError UnclearModelToUseError ReloadArgumentSizeUnmatchedError "
        "ReloadModelIdNotUniqueError EmbeddingUnsupportedModelError EmbeddingExceedContextWindowSizeError "
        "EmbeddingInputEmptyError EmbeddingChunkingUnsupportedError EmbeddingSlidingWindowError "
        "EmbeddingUnsupportedEncodingFormatError",
    ),
    _row(
        "bad_worker",
        "health",
        "worker cloud",
        "EngineScriptError UnknownOperationError NoServiceWorkerAPIError ServiceWorkerInitializationError "
        "NonWorkerEnvironmentError UnknownMessageKindError",
        pattern=r"no active service worker",
    ),
    _row(
        "stalled",
        "health",
        "worker reload cloud",
        "TimeoutError StalledError",
        pattern=r"stopped answering|stalled|no answer from the engine",
    ),
)

UNKNOWN = Row("local_error", "health", ("cloud",))  # what nobody knows is counted, not answered with a new worker

# Our own engine's messages say what to do; those of WebLLM and of browsers seldom do.
_ADVICE = re.compile(r"\b(load|reload|choose|delete|free|build|use|check|shorten|allow)\b", re.IGNORECASE)
_NAMED = re.compile(r"^(?:Uncaught )?([A-Za-z][A-Za-z0-9]*(?:Error|ErrorForNonVLM|ExpectsPrompt)): (.*)$", re.DOTALL)


def split(name: str, message: str) -> tuple[str, str]:
    """Name and message, taken apart where the whole came as one text ("DeviceLostError: gone")."""
    found = _NAMED.match(message)
    if found and name in {"", "Error"}:
        return found.group(1), found.group(2)
    return name or "Error", message


def row(name: str, message: str, phase: str) -> Row:
    """The first row that fits; UNKNOWN (a health failure) if none does."""
    return next((one for one in ROWS if one.fits(name, message, phase)), UNKNOWN)


def classify(name: str, message: str, phase: str = "") -> HybridError:
    """The typed error of a failure that the engine reported."""
    name, message = split(name, message)
    found = row(name, message, phase)
    if found.kind == "stop":
        return Aborted(message)
    if found.kind == "caller":
        return CallerError(message, name=name, code=found.code)
    text = f"{message.rstrip('. ')}. {found.remedy}" if found.remedy and not _ADVICE.search(message) else message
    error_class = EngineDiedError if found.code == "engine_died" else LocalError
    error = error_class(text, name=name, code=found.code, phase=phase, kind=found.kind)
    error.reactions = found.reactions
    return error
