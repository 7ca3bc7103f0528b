"""Average the probabilities of one-channel segmentation in augmented tests.

mmseg stores probabilities where a model has one output channel, and its
``SegTTAModel`` takes their sigmoid once more: none is below a half, and every
pixel becomes lesion (no upstream issue).

Delete when ``SegTTAModel`` averages the probabilities as they are.
"""

from mmmedmask.compat.replacing import replaces


def average_probabilities() -> None:
    """Let mmseg's ``SegTTAModel`` merge the samples of one channel itself."""
    import torch
    from mmengine.structures import PixelData
    from mmseg.models.segmentors.seg_tta import SegTTAModel

    @replaces(SegTTAModel, 'merge_preds')
    def merge_predictions(merge, self, data_samples_list):
        if self.module.out_channels > 1:
            return merge(self, data_samples_list)
        threshold = self.module.decode_head.threshold
        for first, *others in data_samples_list:
            mean = torch.stack([sample.seg_logits.data for sample in
                                (first, *others)]).mean(dim=0)
            first.set_data(dict(
                seg_logits=PixelData(data=mean), pred_sem_seg=PixelData(
                    data=(mean > threshold).to(mean))))
        return [first for first, *_ in data_samples_list]
