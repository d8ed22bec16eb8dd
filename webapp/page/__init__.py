"""The glue between the page's host (python.worker.js) and the orchestrator.

    page.boot(host, config_json)   -> None   builds the orchestrator; when it returns, requests are answered
    page.receive(message_json)     -> None   every later message from the shell, but Panel's
    page.context()                 -> Context, for the Panel app

`host` is the object of static/js/python.worker.js: `post(json)`, `delta(id, delta, provider, segment)`, `engine`, `origin`.
"""

from hybr.webapp.page.app import Context, boot, context, receive

__all__ = ["Context", "boot", "context", "receive"]
