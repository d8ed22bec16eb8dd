"""The fault lab: a scripted engine and a scripted upstream behind the real Protocols, on a clock that never waits.

clock     an event loop whose time is advanced, not waited for; a deadlock is an error at once
engine    an `EngineBridge` that can do what facts/webllm.md says that WebLLM does
upstream  a `Transport` with a gateway behind it that can fail in every way a server can
desk      the orchestrator built on both, with every event on record
"""
