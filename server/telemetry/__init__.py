"""How answers went, never what they said: typed rows, written in batches, lost rather than waited for."""
