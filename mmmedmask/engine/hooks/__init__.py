"""Hooks of the training and test loops."""
