"""Drawn data with known truth: glands, lesions, slides, cohorts."""
