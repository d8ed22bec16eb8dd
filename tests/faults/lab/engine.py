"""The scripted engine, which the page can have too: `webapp/faults/engine.py`."""

from hybr.webapp.faults.engine import ANSWER, Die, End, Fail, Lost, Script, ScriptedEngine, Silent, Sleep, Stall, Step

__all__ = ["ANSWER", "Die", "End", "Fail", "Lost", "Script", "ScriptedEngine", "Silent", "Sleep", "Stall", "Step"]
