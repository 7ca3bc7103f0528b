"""Images with lesion masks as a segmentation data set for mmseg."""

from mmmedmask.datasets.labelled_images import LabelledImages
from mmmedmask.registry import DATASETS

PIXEL_CLASSES = ('background', 'lesion')
PALETTE = ((0, 0, 0), (255, 128, 0))
"""Colours (RGB) of the pixel classes in pictures."""


@DATASETS.register_module()
class LesionSegmentation(LabelledImages):
    """Which pixels are lesion, from the layout of labelled images.

    One split serves pre-training, classification and segmentation. Layout
    and arguments are those of :class:`LabelledImages`; images without a mask
    are all background. The mask is read by ``mmmedmask.LoadLesionMask``.

    Samples have, besides, ``class_name`` (str) of the whole image and
    ``seg_fields`` (empty). In ``metainfo`` the ``classes`` are those of
    pixels, ``background`` and ``lesion``, with their ``palette``;
    ``image_classes`` are those of ``classes.txt``.
    """

    def load_data_list(self) -> list[dict]:
        samples = super().load_data_list()
        image_classes = self._metainfo['classes']
        self._metainfo.update(classes=PIXEL_CLASSES,
                              palette=[list(color) for color in PALETTE],
                              image_classes=image_classes)
        return [{**sample, 'class_name': image_classes[sample['gt_label']],
                 'seg_fields': []} for sample in samples]
