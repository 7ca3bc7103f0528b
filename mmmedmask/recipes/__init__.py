"""Recipes: the rows of the papers' tables, and the runs that make them.

``tools/reproduce.py`` is a thin cover of these modules. A recipe is data
(:mod:`~mmmedmask.recipes.schema`), a yaml file beside the configs.
"""

from mmmedmask.recipes.chain import ChainStage, resolve_chain
from mmmedmask.recipes.check import check_recipe
from mmmedmask.recipes.schema import (
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
