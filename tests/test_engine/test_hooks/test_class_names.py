"""Data whose classes are not those of the weights are refused."""

from contextlib import nullcontext

import pytest
import torch
from mmengine.evaluator import BaseMetric
from tiny_runs import TinyImages, TinyModel, tiny_runner
from torch.utils.data import Subset

from mmmedmask.registry import HOOKS

ORDERS = dict(same=['a', 'b'], other=('b', 'a'), more=['a', 'b', 'c'],
              none=None)
REFUSED = pytest.raises(
    ValueError, match=r"has the classes \['b', 'a'\], and the .* "
    r"\['a', 'b'\]: a label .* this order")


class NoScores(BaseMetric):
    """A metric that looks at nothing."""

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return {}


def images(order):
    data = TinyImages(4)
    if ORDERS[order]:
        data.metainfo = dict(classes=ORDERS[order])
    return data


def loader(data):
    return dict(dataset=data, batch_size=2, num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False))


def runner(root, train='same', val=None, test=None, num_classes=2, epochs=1,
           **settings):
    model = TinyModel()
    model.backbone.num_classes = num_classes
    for part, order in (('val', val), ('test', test)):
        if order is not None:
            data = order if not isinstance(order, str) else images(order)
            settings |= {f'{part}_dataloader': loader(data),
                         f'{part}_cfg': dict(), f'{part}_evaluator':
                         [NoScores(prefix='no')]}
    settings['train_dataloader'] = loader(images(train))
    return tiny_runner(root, model, [HOOKS.build(
        dict(type='mmmedmask.ClassNamesHook'))], epochs, by_epoch=True,
        **settings)


@pytest.fixture
def checkpoint(tmp_path):
    """Of a training of the classes a and b."""
    runner(tmp_path / 'first').train()
    return str(tmp_path / 'first' / 'epoch_1.pth')


@pytest.mark.parametrize(('order', 'num_classes', 'refused'), [
    ('same', 2, False), ('other', 2, True), ('none', 2, False),
    # Survival, and most pre-training.
    ('other', None, False)])
@pytest.mark.parametrize('part', ['val', 'test'])
def test_data_that_a_checkpoint_is_scored_on(
        tmp_path, checkpoint, part, order, num_classes, refused):
    run = runner(tmp_path / 'scored', num_classes=num_classes,
                 load_from=checkpoint, **{part: order})
    with REFUSED if refused else nullcontext():
        getattr(run, part)()


def test_number_and_wrapped_data(tmp_path, checkpoint):
    def scored(name, data):
        return runner(tmp_path / name, test=data, load_from=checkpoint)

    with pytest.raises(ValueError, match=r"test set .* \['a', 'b', 'c'\]"):
        scored('more', 'more').test()
    with REFUSED:
        scored('part', Subset(images('other'), [0, 1])).test()


def test_resumed_training(tmp_path, checkpoint):
    def resumed(name, order):
        runner(tmp_path / name, order, epochs=2, load_from=checkpoint,
               resume=True).train()

    resumed('same', 'same')
    with REFUSED:
        resumed('other', 'other')


def test_fine_tuning_may_have_classes_of_its_own(tmp_path, checkpoint):
    """But its validation has those that are trained."""
    runner(tmp_path / 'new', 'other', 'other', load_from=checkpoint).train()
    with pytest.raises(ValueError, match=r"validation set has .*\['a', 'b'\], "
                       r"and the training set \['b', 'a'\]"):
        runner(tmp_path / 'mixed', 'other', 'same',
               load_from=checkpoint).train()


@pytest.mark.parametrize('meta', [
    dict(dataset_meta=dict(CLASSES=('a', 'b'))), dict(CLASSES=('a', 'b'))])
def test_older_checkpoints_write_the_key_in_capitals(tmp_path, checkpoint,
                                                     meta):
    content = torch.load(checkpoint, weights_only=False)
    del content['meta']['dataset_meta']
    content['meta'] |= meta
    torch.save(content, checkpoint)
    with REFUSED:
        runner(tmp_path / 'scored', test='other', load_from=checkpoint).test()


def test_a_checkpoint_without_names_is_a_warning(tmp_path, checkpoint):
    content = torch.load(checkpoint, weights_only=False)
    del content['meta']['dataset_meta']
    torch.save(content, checkpoint)
    run = runner(tmp_path / 'scored', test='other', load_from=checkpoint)
    lines = []
    run.logger.warning = lines.append
    run.test()
    assert [line for line in lines if 'names no classes' in line] == [
        "the checkpoint names no classes: that those of the test set, "
        "['b', 'a'], are in its order is not checked"]
