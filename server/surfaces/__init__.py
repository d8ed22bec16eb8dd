"""The forms in which clients ask and are answered: OpenAI's chat and embeddings, Anthropic's messages.

A surface turns bytes into a `Call` and chunks into its own form, and nothing else: who may ask, who answers and what it costs
is the relay's, one way for all (CVE-2026-44563 was a surface that went round it).
"""
