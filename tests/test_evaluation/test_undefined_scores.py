"""Which scores of a split will be NaN is known before anything is trained."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mmmedmask.engine.hooks import SafeCheckpointHook
from mmmedmask.evaluation import (
    BinarySegMetric,
    DiseaseClassification,
    SlideClassification,
    SurvivalConcordance,
)
from mmmedmask.evaluation.base_metric import undefined_scores
from mmmedmask.evaluation.binary_segmentation import LESION_SCORES
from mmmedmask.evaluation.probes import score_probe


class Split(list):
    """Entries of a data set."""

    get_data_info = list.__getitem__


def labelled(*labels):
    return Split(dict(gt_label=label) for label in labels)


def followed(*pairs):
    return Split(dict(survival_months=months, censorship=censored)
                 for months, censored in pairs)


LESIONS = {f'lesion/{name}' for name in LESION_SCORES}
NORMAL = {'lesion/normal_empty', 'lesion/normal_false_area'}


@pytest.mark.parametrize(('metric', 'split', 'names'), [
    (DiseaseClassification(), labelled(0, 1, 1), set()),
    (DiseaseClassification(), labelled(2, 2), {'disease/auc'}),
    (DiseaseClassification(), labelled(np.array(2), torch.tensor(2)),
     {'disease/auc'}),
    (DiseaseClassification(), labelled([0, 1], [1]), set()),
    (SlideClassification(), labelled(1, 1, None), {'slide/auc'}),
    (SurvivalConcordance(), followed((1, 0), (2, 1)), set()),
    (SurvivalConcordance(), followed((1, 1), (2, 1)), {'survival/c_index'}),
    # The only death is the last of all that is known.
    (SurvivalConcordance(), followed((3, 0), (2, 1)), {'survival/c_index'}),
    (SurvivalConcordance(), followed((None, None)), {'survival/c_index'}),
    (BinarySegMetric(), ('white', None), set()),
    (BinarySegMetric(), (None, 'black'), LESIONS),
    (BinarySegMetric(), ('white', ), NORMAL),
    # mmseg's data sets: a lesion may be in any of these files.
    (BinarySegMetric(), Split([dict(seg_map_path='0.png')]), set()),
])
def test_names_what_will_be_nan(metric, split, names, tmp_path):
    if isinstance(split, tuple):
        for color, value in (('black', 0), ('white', 255)):
            Image.fromarray(np.full((4, 4), value, np.uint8)).save(
                tmp_path / f'{color}.png')
        split = Split({} if color is None else dict(
            lesion_path=str(tmp_path / f'{color}.png')) for color in split)
    found = undefined_scores([metric], split)
    assert set(found) == names
    assert all(found.values())


def test_a_metric_of_others_is_not_asked():
    assert undefined_scores([object()], labelled(0)) == {}


@pytest.mark.parametrize('best', ['disease/auc', ['disease/top1',
                                                  'disease/auc']])
def test_a_best_checkpoint_by_nan_is_refused(best):
    """Before the first epoch, with the reason and a way out."""
    runner = SimpleNamespace(
        val_loop=SimpleNamespace(evaluator=SimpleNamespace(
            metrics=[DiseaseClassification()])),
        val_dataloader=SimpleNamespace(dataset=labelled(1, 1)))
    with pytest.raises(ValueError, match="'disease/auc', which will be NaN "
                       'in every validation: all images are of class 1'):
        SafeCheckpointHook(
            save_best=best, rule='greater')._refuse_undefined(runner)
    for allowed in ('disease/top1', None):
        SafeCheckpointHook(
            save_best=allowed, rule='greater')._refuse_undefined(runner)
    runner.val_dataloader.dataset = labelled(0, 1)
    SafeCheckpointHook(
        save_best=best, rule='greater')._refuse_undefined(runner)


def test_a_probe_without_both_labels_is_nan(warnings_logged):
    score = score_probe('dense_all', np.zeros(4, int), np.full((4, 2), .5),
                        score='auc')
    assert np.isnan([score.value, score.low, score.high]).all()
    assert 'Probe dense_all: auc is NaN' in warnings_logged[0]
