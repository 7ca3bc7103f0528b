"""Recipes: the rows of the papers' tables, and the runs that make them.

``tools/reproduce.py`` is a thin cover of these modules. A recipe is data
(:mod:`~mmmedmask.experiments.schema`), a yaml file beside the configs.
"""

from mmmedmask.experiments.chain import ChainStage, resolve_chain
from mmmedmask.experiments.check import check_recipe
from mmmedmask.experiments.schema import (
    Change,
    Column,
    Recipe,
    Row,
    Stage,
    find_recipes,
    locate_recipe,
    read_recipe,
)

__all__ = [
    'ChainStage', 'Change', 'Column', 'Recipe', 'Row', 'Stage',
    'check_recipe', 'find_recipes', 'locate_recipe', 'read_recipe',
    'resolve_chain'
]
