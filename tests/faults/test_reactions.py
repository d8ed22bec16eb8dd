"""The table of the facts on WebLLM 0.2.86, row by row: every name and text in it, what it is taken for and what is done about it.

How each reaction goes is played in test_rows.py, tests/unit/hybrid/test_instead.py, test_trim.py and test_recovery.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from hybr.webapp.hybrid import taxonomy
from hybr.webapp.hybrid.errors import CallerError, HybridError, LocalError


@dataclass(frozen=True)
class Fact:
    """A row: `names` as WebLLM calls them, `texts` as they arrive without one, the phases, and what we make of it."""

    row: str
    names: str
    texts: tuple[str, ...]
    phases: str
    codes: str
    kind: str
    reactions: str


FACTS = [
    Fact(
        "no WebGPU: tell the person, cloud",
        "WebGPUNotAvailableError WebGPUNotFoundError",
        ("Unable to find a compatible GPU. Issue during...", "Cannot find WebGPU in the environment"),
        "probe load",
        "no_webgpu",
        "capability",
        "user cloud",
    ),
    Fact(
        "the adapter's limits: cloud",
        "",
        tuple(
            f"Cannot initialize runtime because of requested {limit} exceeds limit. requested=1, limit=0"
            for limit in (
                "maxBufferSize",
                "maxStorageBufferBindingSize",
                "maxComputeWorkgroupStorageSize",
                "maxStorageBuffersPerShaderStage",
            )
        ),
        "probe load",
        "adapter_limits",
        "capability",
        "cloud",
    ),
    Fact(
        "no f16: the float32 twin",
        "ShaderF16SupportError FeatureSupportError",
        (),
        "load",
        "needs_f16",
        "capability",
        "smaller cloud",
    ),
    Fact(
        "a shader that does not compile: another model, once",
        "GPUPipelineError",
        ("Error while parsing WGSL: :1:8 error: extension 'f16' is not allowed", "[Invalid ShaderModule] is invalid"),
        "load",
        "bad_shader needs_f16",
        "capability",
        "smaller cloud",
    ),
    Fact(
        "the device lost while loading: a new worker and a smaller model",
        "DeviceLostError",
        ("DeviceLostError: The WebGPU device was lost",),
        "load",
        "out_of_memory",
        "health",
        "worker smaller cloud",
    ),
    Fact(
        "the device lost later: a new worker and the same model",
        "DeviceLostError ModelNotLoadedError EngineNotLoadedError WorkerEngineModelNotLoadedError SpecifiedModelNotFoundError "
        "ConfigurationNotInitializedError IncorrectPipelineLoadedError OperationError",
        ("Object has already been disposed", "The Device is lost", "Instance dropped in popErrorScope"),
        "prefill decode",
        "device_lost",
        "health",
        "worker reload cloud",
    ),
    Fact(
        "garbage: a new worker and the same model",
        "",
        ("failed to sample a valid token", "logits are NaN"),
        "decode",
        "garbage",
        "health",
        "worker reload cloud",
    ),
    Fact(
        "no room: others give way, a smaller model, tell the person",
        "QuotaExceededError",
        (
            "Failed to execute 'add' on 'Cache': Quota exceeded.",
            "ArtifactIndexedDBCache failed to fetch: x",
            "ArtifactOPFSCache failed to fetch: x",
        ),
        "download",
        "no_space",
        "capability",
        "evict smaller user cloud",
    ),
    Fact(
        "the network: again with pauses",
        "NetworkError",
        (
            "Cache.add() encountered a network error",
            "Cannot fetch http://x",
            "Network response was not ok",
            "Failed to store http://x",
        ),
        "download",
        "download_failed",
        "capability",
        "reload cloud",
    ),
    Fact(
        "corrupt files: clear them, once",
        "SyntaxError CompileError LinkError",
        ("Cannot find function prefill in exports",),
        "download load",
        "corrupt_model",
        "capability",
        "clear cloud",
    ),
    Fact(
        "another file than promised: clear, once",
        "IntegrityError",
        (),
        "load",
        "damaged_copy",
        "capability",
        "clear reload cloud",
    ),
    Fact(
        "a fresh file is another: stop, tell the person", "IntegrityError", (), "download", "tampered", "capability", "user cloud"
    ),
    Fact(
        "a model that is none: cloud, and say so",
        "ArtifactManifestError MissingModelError ModelNotFoundError UnsupportedTokenizerFilesError ConfigValueError "
        "WindowSizeConfigurationError WindowSizeSpecificationError AttentionSinkSizeError",
        (),
        "load",
        "bad_model",
        "capability",
        "cloud",
    ),
    Fact(
        "too long: trim",
        "ContextWindowSizeExceededError",
        ("number of prompt tokens: 90; context window size: 40",),
        "prefill",
        "context_overflow",
        "capability",
        "trim cloud",
    ),
    Fact(
        "images: whoever reads them",
        "UserMessageContentErrorForNonVLM UnsupportedContentPartError CannotFindImageEmbedError "
        "PrefillChunkSizeSmallerThanImageError UnsupportedImageURLError UnsupportedDetailError AudioInputError",
        (),
        "validate prefill",
        "no_vision",
        "capability",
        "cloud",
    ),
    Fact(
        "tools: told in words, else whoever calls them",
        "UnsupportedModelIdError CustomSystemPromptError CustomResponseFormatError",
        (),
        "validate",
        "no_tools",
        "capability",
        "prompt cloud",
    ),
    Fact(
        "a schema: a simpler one, else whoever holds to it",
        "GrammarMatcherInitError InvalidResponseFormatError InvalidResponseFormatGrammarError "
        "InvalidResponseFormatStructuralTagError",
        (),
        "validate prefill decode",
        "bad_schema",
        "capability",
        "simpler cloud",
    ),
    Fact(
        "a tool call that is none: once more",
        "ToolCallOutputParseError ToolCallOutputInvalidTypeError JSONFieldError",
        (),
        "decode",
        "bad_tool_call",
        "capability",
        "retry cloud",
    ),
    Fact(
        "the caller's: raise, and nothing else",
        "RangeError MinValueError NonNegativeError DependencyError InvalidNumberStringError SeedTypeError StreamingCountError "
        "InvalidStreamOptionsError MessageOrderError SystemMessageOrderError UnsupportedRoleError ContentTypeError "
        "UnsupportedFieldsError InvalidToolChoiceError FunctionNotFoundError UnsupportedToolTypeError "
        "TextCompletionExpectsKVEmptyError TextCompletionConversationExpectsPrompt TextCompletionConversationError "
        "UnclearModelToUseError ReloadArgumentSizeUnmatchedError ReloadModelIdNotUniqueError EmbeddingUnsupportedModelError "
        "EmbeddingExceedContextWindowSizeError EmbeddingInputEmptyError EmbeddingChunkingUnsupportedError",
        (),
        "validate prefill",
        "invalid_request",
        "caller",
        "",
    ),
    Fact(
        "the wrong kind of worker: a new one",
        "NoServiceWorkerAPIError ServiceWorkerInitializationError NonWorkerEnvironmentError UnknownMessageKindError",
        ("There is no active service worker",),
        "worker",
        "bad_worker",
        "health",
        "worker cloud",
    ),
    Fact("a stop: nothing", "AbortError", (), "decode", "aborted", "stop", ""),
    Fact(
        "silence: a new worker and the same model",
        "StalledError",
        (),
        "prefill decode worker",
        "stalled",
        "health",
        "worker reload cloud",
    ),
]


def arrivals(fact: Fact) -> list[tuple[str, str, str]]:
    """Each form in which it comes: an Error with its name, the worker's text with the name in it, a text without any."""
    named = fact.names.split()
    forms = [(name, "it failed") for name in named]
    forms += [("Error", f"{name}: it failed") for name in named] + [("", f"{name}: it failed") for name in named]
    forms += [("Error", text) for text in fact.texts] + [("Error", f"Error: {text}") for text in fact.texts]
    return [(name, text, phase) for name, text in forms for phase in fact.phases.split()]


@pytest.mark.parametrize("fact", FACTS, ids=[fact.row for fact in FACTS])
def test_a_row(fact: Fact) -> None:
    """In whichever form it comes it is taken for the same, and has the same reactions."""
    for name, text, phase in arrivals(fact):
        error = taxonomy.classify(name, text, phase)
        assert error.code in fact.codes.split(), (name, text, phase)
        kind = {CallerError: "caller"}.get(type(error)) or getattr(error, "kind", "stop")
        assert kind == fact.kind, (name, text, phase)
        assert not fact.reactions or reactions(error) == fact.reactions, (name, text, phase)


def test_every_error_of_the_package_is_known() -> None:
    """Each name that WebLLM gives an error, with a digit in it or not, has a row; but for those that stay inside of it."""
    script = (Path(__file__).parents[2] / "static/node_modules/@mlc-ai/web-llm/lib/index.js").read_text()
    named = set(re.findall(r'\bthis\.name = "(\w+)"', script))
    inside = {"CrossContextLockUnavailableError", "ResumableInjectedFault", "ResumableSessionExistsError"}
    phases = ("probe", "download", "load", "validate", "prefill", "decode", "worker")
    codes = {name: {taxonomy.classify("Error", f"{name}: no", phase).code for phase in phases} for name in named}
    assert len(named) > 60
    assert {name for name, found in codes.items() if found == {"local_error"}} == inside


def reactions(error: HybridError) -> str:
    """What is done about it."""
    assert isinstance(error, LocalError)
    return " ".join(error.reactions)


def test_no_reaction_is_only_words() -> None:
    """Every reaction that the table names is taken somewhere: these are all there are, each with its test."""
    known = {"reload", "smaller", "clear", "refresh", "worker", "cloud", "trim", "retry", "user", "raise", "stop"}
    known |= {"prompt", "simpler", "evict"}
    assert {one for row in taxonomy.ROWS for one in row.reactions} == known
