"""Slides: readers, tiles, files of features, bags, cohorts and folds.

Slides are read by OpenSlide, which is imported when the first one is opened:
reading features needs none of this.
"""
