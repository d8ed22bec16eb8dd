"""A text of our own, for measures that need ordinary English: a story and plain facts."""

from __future__ import annotations

TEXT = """The lighthouse stood at the end of the long stone pier. Every evening, when the sun went down behind the hills, the
keeper climbed the stairs to light the lamp. He had done this for thirty years, and in all that time the light had never failed.
Ships from many countries passed along the coast on their way to the harbour, carrying grain, timber, wool and salt. The
captains knew the rocks, and they knew that the light would tell them where the rocks were. One night in November a storm came
from the north. The wind tore at the shutters and the waves broke over the pier, and the keeper saw that the glass of the lamp
had cracked. He took a lantern, wrapped it in his coat, and held it against the window until the morning. When the first ship
came in, its captain asked who had kept the light burning. The keeper only said that it was his work.
Water boils at one hundred degrees Celsius at sea level, and at a lower temperature on a high mountain, because the pressure of
the air is lower there. Plants use the energy of sunlight to make sugar from water and carbon dioxide; the oxygen that is left
over goes into the air we breathe. The capital of France is Paris, the capital of Spain is Madrid, and the capital of Italy is
Rome. A triangle has three sides, and the sum of its angles is one hundred and eighty degrees.
"""
