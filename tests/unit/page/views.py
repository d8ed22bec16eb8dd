"""Runs inside Pyodide (panel.mjs): draws the views, sends one change each way, and prints what crossed."""
# ruff: noqa: F821, PLE1142, F704, D103, ARG005  `send` is given by panel.mjs; Pyodide runs this with top-level await

import asyncio
import json
from types import SimpleNamespace

from hybr.webapp.hybrid.events import EventBus

MODELS = [{"id": "m", "name": "M", "bytes": 5, "state": "built", "fits": {"fits": True, "reason": ""}, "cached": False}]
chosen = []


async def index() -> list:
    return MODELS


local = SimpleNamespace(
    get_status=lambda: {"state": "unloaded", "runtime": "webgpu", "webgpu": "yes", "model": None},
    get_runtime_info=dict,
    get_available_models=lambda: MODELS,
    entry=lambda model: None,
    refresh=index,
)
hybrid = SimpleNamespace(
    get_status=lambda: {"mode": chosen[-1] if chosen else "cloud"},
    get_auto_switch_config=lambda: {"modes": ["local", "cloud"]},
    get_usage_stats=dict,
    get_egress_log=list,
)
place = SimpleNamespace(where="main", set_mode=lambda mode, manual: chosen.append(mode))
chat = SimpleNamespace(egress="allow")
context = SimpleNamespace(hybrid=hybrid, local=local, events=EventBus(), preferences={}, place=place, chat=chat)
host = SimpleNamespace(origin="http://127.0.0.1", assets="/assets/0", post=send)

from hybr.webapp.ui.app import start  # noqa: E402  as python.worker.js does it: after the core

app = start(host, context)
app.receive(json.dumps({"op": "rendered"}))
view = app.views["mode"]
message = {
    "type": "event",
    "name": "data_event",
    "values": {
        "type": "map",
        "entries": [
            ["model", {"id": view._models[next(iter(view._models))][0].id}],
            ["data", {"action": "set-mode", "mode": "local", "sent": 1}],
        ],
    },
}
app.receive(
    json.dumps(
        {
            "op": "patch",
            "patch": json.dumps({"events": [{"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": message}]}),
        }
    )
)
await asyncio.sleep(0.3)
send(json.dumps({"chosen": chosen}))

# Kinds that the next views will want: they must serialise with the stand-ins.
import panel as pn  # noqa: E402
from bokeh.document import Document  # noqa: E402
from bokeh.plotting import figure  # noqa: E402

plot = figure(width=300, height=200)
plot.line([1, 2, 3], [3.0, 1.0, 2.0])
document = Document()
for thing in (
    pn.Column(pn.widgets.TextInput(value="a"), pn.widgets.Select(options=["a", "b"])),
    pn.pane.HTML("<b>x</b>"),
    pn.pane.Bokeh(plot),
):
    thing.server_doc(doc=document, location=False)
send(
    json.dumps(
        {
            "kinds": sorted({model.__class__.__name__ for model in document.models}),
            "bytes": len(json.dumps(document.to_json(), default=str)),
        }
    )
)
