"""What runs in the page: the orchestrator, what it talks to, what it remembers, and the views."""
