"""Name of pandas' grouping class, for `isinstance`."""


class GroupBy:
    """A grouped table; none can exist in the page."""
