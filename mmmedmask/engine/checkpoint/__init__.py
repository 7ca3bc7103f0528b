"""Checkpoints: read them safely, compare, convert, name for others."""
