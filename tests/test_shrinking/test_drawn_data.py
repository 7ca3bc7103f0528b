"""What is drawn for a shrunk config follows what a user changed in it."""

import json
from pathlib import Path

import pytest
from config_variants import families, with_classes, with_pixels
from shipped_configs import load

from mmmedmask.inspection.trial import run_reduced
from mmmedmask.shrinking import drawn_data as drawing
from mmmedmask.shrinking.shrink import shrink_config

CLASSIFIER = 'vit-base-p16_amt_1xb256-100e_messidor2'
PRETRAINING = 'msmae_vit-base-p16_1xb64-coslr-300e_busi'
DETECTOR = 'mask-rcnn_cmim-resnet18-fpn_1xb4-100i_gland-phantoms'


def trial(name, folder, classes=None, pixels=None):
    """Try a shipped config as a user with other data would change it."""
    cfg = load(name)
    cfg = with_classes(cfg, classes) if classes else cfg
    cfg = with_pixels(cfg, *pixels) if cfg and pixels else cfg
    return None if cfg is None else run_reduced(cfg, folder, 2)


@pytest.mark.parametrize(('name', 'classes', 'pixels'), [
    (CLASSIFIER, 10, (1, 'uint16')), (CLASSIFIER, 2, (5, 'uint16')),
    (PRETRAINING, 2, (1, 'uint16')), (PRETRAINING, 2, (3, 'uint16')),
    ('cmim_resnet18_1xb32-coslr-12e_ihc-tiles', None, (1, 'uint16')),
    ('clam-mb_1xb8-coslr-70e_tcga-nsclc', 10, None), (DETECTOR, 3, None)])
def test_drawn_data_follow_the_config(name, classes, pixels, tmp_path):
    """Other numbers of classes, channels and bits raise no alarm."""
    finding = trial(name, tmp_path, classes, pixels)
    assert finding.status == 'green', finding
    assert 'training steps' in finding.message


@pytest.mark.parametrize(('name', 'stopped', 'file'), [
    ('mmmedmask.LabelledImages', 'phantoms.lesions.write_csv',
     'splits/*/train.csv'),
    ('CocoDataset', 'shrinking.drawn_data.write_json', 'train.json')])
def test_what_a_stopped_run_has_drawn_is_drawn_again(
        tmp_path, monkeypatch, name, stopped, file):
    kind = drawing.DrawnKind(('a', 'b'))
    dataset = dict(type=name, data_root='data', ann_file='train.json')

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f'mmmedmask.{stopped}', stop)
        with pytest.raises(KeyboardInterrupt):
            drawing.draw_dataset(dict(dataset), tmp_path, kind)
    root = Path(drawing.draw_dataset(dataset, tmp_path, kind))
    written, = root.glob(file)
    text = written.read_text()
    if name == 'CocoDataset':
        assert [category['name'] for category in json.loads(
            text)['categories']] == ['a', 'b']
    assert [path.name for path in tmp_path.iterdir()] == [root.name]


def test_one_schedule_or_none(tmp_path, drawn_data):
    one = dict(type='CosineAnnealingLR', T_max=70)
    for given, shrunk in ((one, [one]), ([one, dict(one, begin=5)], [one]),
                          (None, None), ([], []), (..., ...)):
        cfg = load('abmil_1xb8-coslr-70e_tcga-nsclc')
        cfg.pop('param_scheduler')
        if given is not ...:
            cfg.param_scheduler = given
        cfg = shrink_config(cfg, tmp_path, drawn_data)
        assert cfg.get('param_scheduler', ...) == shrunk


def test_what_a_config_does_not_say_of_its_images_is_red(tmp_path):
    """The model has a channel, and images are loaded with three."""
    cfg = with_pixels(load(CLASSIFIER), 1, 'uint8')
    cfg.model.backbone.in_channels = 3
    finding = run_reduced(cfg, tmp_path, 2)
    assert finding.status == 'red'


@pytest.mark.slow_recipes
def test_no_kind_of_config_raises_a_false_alarm(tmp_path):
    """Two and ten classes, gray and RGB, 8 and 16 bits, of every kind."""
    alarms, tried = [], 0
    for name in families():
        for number, changes in enumerate((
            dict(classes=2), dict(classes=10), dict(pixels=(1, 'uint8')),
            dict(pixels=(1, 'uint16')), dict(pixels=(3, 'uint16')))):
            finding = trial(name, tmp_path / f'{name}_{number}', **changes)
            tried += finding is not None
            if finding is not None and finding.status != 'green':
                alarms.append(f'{name}, {changes}: {finding.message}')
    assert tried > 100
    assert not alarms, '\n'.join(alarms)
