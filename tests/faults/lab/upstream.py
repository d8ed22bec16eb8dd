"""The scripted upstream, which the page can have too: `webapp/faults/upstream.py`."""

from hybr.webapp.faults.upstream import ANSWER, Cut, Event, Refuse, Script, ScriptedUpstream, Step, Tail, Unreachable

__all__ = ["ANSWER", "Cut", "Event", "Refuse", "Script", "ScriptedUpstream", "Step", "Tail", "Unreachable"]
