"""Turn official downloads into our layouts, and say what is wrong in them.

``tools/dataset_converters/convert.py`` is thin; what it does is here. Each
data set has a conversion with ``write(out)``, which returns what was written
in lines to print, ``notices``, and mostly ``check(out)``, which returns a
report.
"""


class LayoutError(ValueError):
    """A folder does not hold the data set as it is released."""
