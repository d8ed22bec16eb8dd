"""The doors: who may come in, as whom, and until when.

Three modes, by HYBR_AUTH:

    token      (default) one person on this machine: the start prints a link that works once and gives the browser a cookie.
    off        nobody is asked; on a loopback address only.
    accounts   people with passwords and sessions; the server may then listen on other addresses.

API tokens (`hybr tokens`) let scripts in. Parts: `credential` (what a request brings), `local` (the link, its cookie), `registry`
(tokens, sessions and their end), `door` (the ASGI wall), `routes` (`/api/session`), `throttle` (against guessing).
"""
