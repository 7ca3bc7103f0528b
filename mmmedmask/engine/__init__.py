"""Hooks and samplers."""

from mmmedmask.engine import hooks  # noqa: F401
