"""What somebody who is not let in sees at the page's address: how to get in, and a field to do it with.

Served with 401, so that no cache and no service worker takes it for the page. Its one script stands in the policy by its hash. A
browser that comes by another site's link brings no strict cookie at first: the script looks once whether it is let in after all.
"""

from __future__ import annotations

from typing import NamedTuple

from starlette.responses import Response

from hybr.server.security import policy
from hybr.server.site import inline_hashes


class Words(NamedTuple):
    """What the page says in one mode."""

    title: str
    text: str
    fields: str
    button: str
    wrong: str
    stale: str = ""


PASTE = """
<label>Or paste the link here <input name="token" autocomplete="off" spellcheck="false" required autofocus></label>"""
LOGIN = """
<label>Name <input name="name" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required></label>"""
WORDS = {
    "token": Words(
        "This HYBR belongs to somebody",
        "Open the link that the server printed in its terminal, or a fresh one: <code>hybr link</code> prints it there. "
        "It works once; this browser is then let in for months.",
        PASTE,
        "Open",
        "That is not this server's link, or it was used already.",
        "That link does not let in: it was used already, or it is an old one. <code>hybr link</code> prints a fresh one.",
    ),
    "accounts": Words("Log in to HYBR", "", LOGIN, "Log in", "Name and password do not belong together."),
}

STYLE = """
:root{color-scheme:light dark;--ink:light-dark(#1f1d1a,#ece9e3);--dim:light-dark(#625e57,#aaa59c);
--ground:light-dark(#faf9f7,#171614);--edge:light-dark(#8a857d,#7d7870);--bad:light-dark(#b42318,#ff9d92);--focus:light-dark(#2563eb,#7db0ff)}
body{margin:0;min-height:100vh;display:grid;place-items:center;font:16px/1.5 system-ui,sans-serif;
color:var(--ink);background:var(--ground)}
main{box-sizing:border-box;width:min(26rem,100vw);padding:1.5rem}
h1{font-size:1.4rem;margin:0 0 .5rem}p{color:var(--dim);margin:.5rem 0}
label{display:block;margin:1rem 0 0}
input{display:block;box-sizing:border-box;width:100%;margin-top:.25rem;padding:.6rem .75rem;font:inherit;color:inherit;
background:transparent;border:1px solid var(--edge);border-radius:.5rem}
button{margin-top:1rem;padding:.6rem 1.25rem;font:inherit;font-weight:600;color:var(--ground);background:var(--ink);
border:0;border-radius:.5rem}
:focus-visible{outline:2px solid var(--focus);outline-offset:2px}
[role=alert]{color:var(--bad)}
"""

SCRIPT = """
const form = document.querySelector("form"), said = document.querySelector("[role=alert]");
const on = () => {
  const here = new URL(location.href);
  here.searchParams.delete("token");
  location.replace(here);
};
fetch("/api/session").then((answer) => { if (answer.ok) on(); }, () => {});
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = Object.fromEntries(new FormData(form));
  if (fields.token) fields.token = fields.token.trim().split("token=").pop().split("&")[0];
  said.textContent = "";
  try {
    const headers = { "content-type": "application/json" };
    const answer = await fetch("/api/session", { method: "POST", headers, body: JSON.stringify(fields) });
    if (answer.ok) return on();
    said.textContent = answer.status === 401 ? form.dataset.wrong : (await answer.json()).error.message;
  } catch {
    said.textContent = "The server does not answer.";
  }
});
"""

DOCUMENT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{words.title}</title><style>{style}</style>
<main><h1>{words.title}</h1><p>{words.text}</p>
<form data-testid="door" data-wrong="{words.wrong}">{words.fields}<button>{words.button}</button>
<p role="alert">{alert}</p></form></main><script>{script}</script></html>"""


def closed(mode: str, *, used: bool = False) -> Response:
    """Return the page for a server in `mode`; `used` says that they came by a link that does not let in."""
    words = WORDS[mode]
    document = DOCUMENT.format(words=words, style=STYLE, script=SCRIPT, alert=words.stale if used else "")
    headers = {"cache-control": "no-store", "content-security-policy": policy(inline_hashes(document))}
    return Response(document, status_code=401, media_type="text/html", headers=headers)
