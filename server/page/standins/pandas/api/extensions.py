"""Name of pandas' array base class, for `isinstance`."""


class ExtensionArray:
    """Base of pandas' own arrays; none can exist in the page."""
