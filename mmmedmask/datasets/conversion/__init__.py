"""Turn official downloads into our layouts, and say what is wrong in them.

The scripts in ``tools/dataset_converters`` are thin; what they do is here.
"""


class LayoutError(ValueError):
    """A folder does not hold the data set as it is released."""
