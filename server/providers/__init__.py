"""Who can answer: a room for each kind of provider, behind the Protocol in `base`."""
