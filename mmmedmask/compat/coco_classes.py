"""Number the classes of COCO files as a config's ``classes`` does.

mmdet's ``COCO.get_cat_ids`` gives ids in the order of the file, and its data
sets and metrics number classes by them: ``classes`` in another order swapped
their names, and a name that the file lacks was left out without a word, up
to an error about concatenation or an index (no upstream issue).

Delete when ``CocoDataset`` numbers labels by ``metainfo['classes']``, and
refuses names that its file lacks.
"""

import logging

from mmmedmask.compat.replacing import replaces
from mmmedmask.util.nearest import did_you_mean


def order_categories() -> None:
    """Let mmdet's ``COCO.get_cat_ids`` keep the order of the names."""
    from mmdet.datasets.api_wrappers.coco_api import COCO

    @replaces(COCO, 'get_cat_ids')
    def get_cat_ids(find, self, cat_names=(), sup_names=(), cat_ids=()):
        names = [cat_names] if isinstance(cat_names, str) else list(cat_names)
        valid = [category['name'] for category in self.cats.values()]
        there = [name in valid for name in names]
        for name in names:
            # Without the last classes, the others keep their numbers.
            lost = any(there) and there == sorted(there, reverse=True)
            if name not in valid and (not lost or did_you_mean(name, valid)):
                raise ValueError(
                    f'the COCO file has no category {name!r}, but {valid}; '
                    'metainfo.classes of the data set names those to read.'
                    f'{did_you_mean(name, valid)}')
        if not all(there):
            from mmengine.logging import print_log
            print_log(
                f'the COCO file lacks the last of the classes {names}',
                logger='current', level=logging.WARNING)
        ids = find(self, names, sup_names, cat_ids)
        # Without names it is the file's.
        return sorted(ids, key=lambda number: names and names.index(
            self.cats[number]['name']))
