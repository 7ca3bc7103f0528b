"""Data sets, one file per kind of data, and their transforms."""
