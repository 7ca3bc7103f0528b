"""Drawn data with known truth, tiny configs and contract tests."""
