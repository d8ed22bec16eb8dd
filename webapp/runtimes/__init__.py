"""What the orchestrator talks to: the engine in its worker, the server gateway, each behind a Protocol of `base`."""
