"""The orchestrator: pure Python, no browser import; tested on CPython as it is."""
