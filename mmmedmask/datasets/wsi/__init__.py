"""From whole slides and folders of tiles to files of features.

Slides are read by OpenSlide, which is imported when the first one is opened:
reading features needs none of this.
"""
