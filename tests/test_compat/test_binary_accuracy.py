"""The accuracy that mmseg's heads of one channel log is that of the model."""

import pytest
import torch
from mmengine.structures import PixelData

pytest.importorskip('mmseg')


@pytest.mark.parametrize('ignore_index', [255, None])
@pytest.mark.parametrize('threshold', [.3, .7])
def test_accuracy_of_one_channel(threshold, ignore_index):
    from mmseg.models import FCNHead
    from mmseg.structures import SegDataSample
    head = FCNHead(
        in_channels=4, channels=4, num_convs=1, num_classes=2, out_channels=1,
        threshold=threshold, ignore_index=ignore_index,
        loss_decode=dict(type='mmmedmask.BCEDiceLoss'))
    labels = torch.randint(0, 2, (2, 1, 8, 8))
    if ignore_index:
        labels[0, 0, :3] = ignore_index
    scores = torch.randn(2, 1, 8, 8)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=one))
               for one in labels]
    right = counted = 0
    for score, label in zip(scores.flatten().sigmoid().tolist(),
                            labels.flatten().tolist(), strict=True):
        if label != ignore_index:
            right += (score > threshold) == label
            counted += 1
    losses = head.loss_by_feat(scores, samples)
    assert losses['acc_seg'].item() == pytest.approx(100 * right / counted)
    perfect = 50. * (2 * (labels == 1) - 1)
    assert head.loss_by_feat(perfect, samples)['acc_seg'].item() == 100
    # Logits of another size are those that the loss sees.
    assert 0 <= head.loss_by_feat(
        scores[..., :4, :4], samples)['acc_seg'].item() <= 100


def test_accuracy_of_several_channels_is_that_of_mmseg():
    from mmseg.models import FCNHead
    from mmseg.models.losses import accuracy
    from mmseg.structures import SegDataSample
    head = FCNHead(in_channels=4, channels=4, num_convs=1, num_classes=2)
    labels = torch.randint(0, 2, (1, 1, 8, 8))
    scores = torch.randn(1, 2, 8, 8)
    found = head.loss_by_feat(scores, [
        SegDataSample(gt_sem_seg=PixelData(data=labels[0]))])['acc_seg']
    assert torch.equal(found, accuracy(scores, labels[:, 0]))
