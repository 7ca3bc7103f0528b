"""Recipes, the runs that make their tables, and the engine that runs them.

``tools/reproduce.py`` and ``tools/cross_validate.py`` cover these modules
thinly. Nothing is imported here, so that a list of tables waits for nothing.
"""
