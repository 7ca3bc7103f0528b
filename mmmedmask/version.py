"""The version of the package, read by setup.py and by mim."""

__version__ = '0.1.0'
