"""Measure the accuracy of segmentation with one output channel.

mmseg's decode heads log ``acc_seg``, the share of pixels whose largest
channel is the label. The largest of one channel is always number 0: it was
the share of background, whatever the model (no upstream issue).

Delete when ``BaseDecodeHead.loss_by_feat`` compares with the threshold.
"""

from mmmedmask.compat.replacing import replaces


def compare_with_threshold() -> None:
    """Let mmseg's ``BaseDecodeHead`` compare one channel with a threshold."""
    import torch
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead
    from mmseg.models.utils import resize

    @replaces(BaseDecodeHead, 'loss_by_feat')
    def loss_by_feat(measure, self, seg_logits, batch_data_samples):
        losses = measure(self, seg_logits, batch_data_samples)
        if self.out_channels == 1:
            labels = self._stack_batch_gt(batch_data_samples)
            with torch.no_grad():
                lesion = resize(
                    seg_logits, labels.shape[2:], mode='bilinear',
                    align_corners=self.align_corners
                ).sigmoid() > self.threshold
            counted = torch.ones_like(lesion) if self.ignore_index is None \
                else labels != self.ignore_index
            right = (lesion == labels) & counted
            losses['acc_seg'] = 100 * right.sum() / counted.sum().clamp(min=1)
        return losses
