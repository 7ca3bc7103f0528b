"""Recipes, the runs that make their tables, and the engine that runs them.

``tools/reproduce.py`` and ``tools/cross_validate.py`` are thin covers of
these modules. A recipe is data (:mod:`~mmmedmask.experiments.schema`), a yaml
file beside the configs. Nothing is imported here, so that a list of tables
does not wait for libraries.
"""
