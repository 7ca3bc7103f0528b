"""Tell how many images a COCO data set leaves out, and refuse an empty one.

mmdet's ``CocoDataset`` drops images without instances in training without a
word, and without any left ends in "need at least one array to concatenate"
(no upstream issue).

Delete when ``CocoDataset.filter_data`` does both.
"""

from mmmedmask.compat.replacing import replaces


def count_filtered_images() -> None:
    """Let mmdet's ``CocoDataset.filter_data`` say what it has done."""
    from mmdet.datasets.coco import CocoDataset
    from mmengine.logging import print_log

    @replaces(CocoDataset, 'filter_data')
    def filter_images(filter_data, self):
        left = filter_data(self)
        total = len(self.data_list)
        text = (f'{self.ann_file}: {total - len(left)} of {total} images are '
                f'left out, without an instance of {self.metainfo["classes"]} '
                f'or too small, by filter_cfg={self.filter_cfg}')
        if not left:
            raise ValueError(f'the data set is empty: {text}')
        if len(left) < total:
            print_log(text, 'current')
        return left
