"""Providers on loopback that speak their wire formats as the public references have them, and misbehave when told to."""
