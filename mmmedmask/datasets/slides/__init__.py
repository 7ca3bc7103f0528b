"""Slides: readers, tiles, files of features, bags, cohorts and folds."""
