"""Checkpoints: read them safely, compare, convert, name for others."""

from mmmedmask.engine.checkpoint.reading import get_state_dict, read_checkpoint

__all__ = ['get_state_dict', 'read_checkpoint']
