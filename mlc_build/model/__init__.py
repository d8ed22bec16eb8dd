"""The model as a Relax graph: its numbers, its layers, its cache."""
