"""Models: one folder per method, shared bricks in ``layers``."""
