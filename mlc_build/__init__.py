"""The model compiler: public checkpoints in, what WebLLM loads out, from PyPI and Debian packages alone."""
