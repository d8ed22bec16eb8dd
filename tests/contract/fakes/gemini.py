"""Google's Gemini: checks the request as the reference has it, and answers in its events, with CRLF as the real one does."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from fakes.wire import Asked, Script, answered, events, streamed

KEY = "AIzaTest0123456789abcdefghijklmnopqrstu"
FIELDS = {"contents", "systemInstruction", "generationConfig", "tools", "toolConfig"}
SETTINGS = {
    "temperature", "topP", "maxOutputTokens", "stopSequences", "seed", "presencePenalty", "frequencyPenalty", "responseMimeType",
    "responseJsonSchema", "topK", "thinkingConfig",
}  # fmt: skip
PARTS = {"text", "inlineData", "functionCall", "functionResponse", "thoughtSignature"}


def error(status: int, name: str, message: str, reason: str = "") -> Script:
    """Return a refusal."""
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}] if reason else []
    return answered(status, {"error": {"code": status, "message": message, "status": name, "details": details}})


def wrong(body: dict[str, Any]) -> str:
    """Return what the API would say against a body, empty for a good one."""
    if unknown := (set(body) - FIELDS) | (set(body.get("generationConfig", {})) - SETTINGS):
        return f'Invalid JSON payload received. Unknown name "{min(unknown)}"'
    for turn in body["contents"]:
        if turn["role"] not in {"user", "model"}:
            return "Please use a valid role: user, model."
        if not turn["parts"] or any(set(part) - PARTS for part in turn["parts"]):
            return "contents.parts must not be empty"
    return ""


def answer(asked: Asked) -> Script:
    """Answer as Gemini does: a bad key is a 400."""
    if asked.headers.get("x-goog-api-key") != KEY or "key=" in asked.target:
        return error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", "API_KEY_INVALID")
    path = urlsplit(asked.target).path
    if path == "/v1beta/models":
        entry = {"inputTokenLimit": 1000, "displayName": "Gemini", "supportedGenerationMethods": ["generateContent"]}
        names = ("models/gemini-9-pro", "models/gemini-flash-latest")
        other = {"name": "models/embedding-1", "supportedGenerationMethods": ["embedContent"]}
        return answered(200, {"models": [other, *({"name": name, **entry} for name in names)]})
    if path == "/v1beta/models/gemini-flash-latest:countTokens":
        counted = asked.body["generateContentRequest"]
        if set(asked.body) != {"generateContentRequest"} or counted.pop("model", "") != "models/gemini-flash-latest":
            return error(400, "INVALID_ARGUMENT", "generateContentRequest.model is wrong")
        return error(400, "INVALID_ARGUMENT", message) if (message := wrong(counted)) else answered(200, {"totalTokens": 31})
    if path != "/v1beta/models/gemini-flash-latest:streamGenerateContent" or not asked.target.endswith("?alt=sse"):
        return error(404, "NOT_FOUND", "models/x is not found for API version v1beta")
    if message := wrong(asked.body):
        return error(400, "INVALID_ARGUMENT", message)
    if asked.body.get("tools"):
        return streamed(framed(*called()))
    return streamed(framed(*told("Pa", "ris ", "é😀")))


def framed(*items: Any, end: bytes = b"\r\n\r\n") -> bytes:
    """Return the events."""
    return events(*items, end=end)


def part(*parts: dict[str, Any], finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return one event."""
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 2, "thoughtsTokenCount": 1, "totalTokenCount": 12}
    candidate |= {"finishReason": finish} if finish else {}
    shape = {"usageMetadata": usage, "modelVersion": "gemini-flash", "responseId": "r"}
    return {"candidates": [candidate], **shape, **fields}


def told(*texts: str, finish: str = "STOP") -> list[Any]:
    """Return the events of an answer: thoughts, then all texts but the last in one event of several parts."""
    *first, last = texts
    thought = part({"text": "hm ", "thought": True})
    return [thought, part(*({"text": text} for text in first)), part({"text": last}, finish=finish)]


def called() -> list[Any]:
    """Return two tool calls, the first signed."""
    first = {"functionCall": {"name": "weather", "args": {"city": "Paris"}}, "thoughtSignature": "c2ln"}
    return [part(first, {"functionCall": {"name": "time", "args": {}}}), part(finish="STOP")]
