"""check_config.py: runs that would die or do nothing are red, others not."""

import json

import pytest
import torch
from config_variants import families, with_classes, with_pixels
from shipped_configs import CONFIGS, load, read, source_of

from mmmedmask.inspection.agreement import check_agreement
from mmmedmask.inspection.building import Parts, build_parts
from mmmedmask.inspection.trial import run_reduced
from mmmedmask.inspection.weights import check_module_weights
from mmmedmask.phantoms.glands import write_gland_dataset
from mmmedmask.phantoms.lesions import write_lesion_dataset
from mmmedmask.phantoms.slide_omic_cohort import write_slide_omic_cohort
from mmmedmask.util.nested import nested_dicts

CLASSIFIER = 'vit-base-p16_amt_1xb256-100e_messidor2'
PRETRAINING = 'msmae_vit-base-p16_1xb64-coslr-300e_busi'
DETECTOR = 'mask-rcnn_cmim-resnet18-fpn_1xb4-100i_gland-phantoms'


def red(findings):
    return [f'{finding.message} -> {finding.mend}' for finding in findings
            if finding.status == 'red']


def on_images(cfg, root):
    """Let a config read a folder of labelled images."""
    for name in ('train_dataloader', 'val_dataloader'):
        if cfg.get(name):
            cfg[name].dataset.update(data_root=str(root), split_folder=(
                'splits/paper'))
    return cfg


def write_split(lesions, name, change):
    """Write tables of which each line is changed, or left out (None)."""
    folder = lesions / 'splits' / name
    folder.mkdir()
    for table in (lesions / 'splits/paper').glob('*.csv'):
        lines = [change(table.stem, line)
                 for line in table.read_text().splitlines()]
        (folder / table.name).write_text(
            ''.join(f'{line}\n' for line in lines if line is not None))


def agreement(cfg):
    return red(check_agreement(cfg, build_parts(cfg)))


@pytest.fixture(scope='module')
def lesions(tmp_path_factory):
    """Three classes, one of them without masks."""
    return write_lesion_dataset(tmp_path_factory.mktemp('lesions') / 'data', 8,
                                4, size=48, normal=True)


@pytest.fixture(scope='module')
def glands(tmp_path_factory):
    return write_gland_dataset(
        tmp_path_factory.mktemp('glands') / 'data', 3, 2, size=64)


def test_the_parts_of_shipped_configs_agree():
    """As far as it can be told without their data."""
    files = [path for path in sorted(CONFIGS.rglob('*.py'))
             if '_base_' not in path.parts]
    assert len(files) > 200
    assert {path.stem: found for path in files if (
        found := check_agreement(read(path), Parts()))} == {}


@pytest.mark.parametrize(('count', 'problem'), [
    (4, None), (3, 'the model has 3 classes, the train data have 4'),
    (5, 'the model has 5 classes, the train data have 4')])
def test_classes_of_head_and_data(count, problem, lesions, tmp_path):
    cfg = on_images(load(CLASSIFIER), lesions)
    cfg.model.head.num_classes = count
    parts = build_parts(cfg)
    found = red(check_agreement(cfg, parts))
    trial = run_reduced(cfg, tmp_path, 2, parts.datasets)
    if problem is None:
        assert found == []
        assert trial.status == 'green', trial
        assert 'true data: 2 training steps' in trial.message
        assert 'validated (disease/top1' in trial.message
    else:
        for part in (problem, 'normal, bright, dark, striped',
                     'num_classes=4'):
            assert part in found[0]
        # It is true: without the check, the run dies.
        assert trial.status == 'red', trial


def on_glands(glands):
    cfg = load(DETECTOR)
    for name in ('train', 'val', 'test'):
        cfg[f'{name}_dataloader'].dataset.update(
            data_root=str(glands), metainfo=dict(classes=('gland', )),
            ann_file=f'annotations/{"train" if name == "train" else "test"}'
            '.json')
        if name != 'train':
            cfg[f'{name}_evaluator'].ann_file = str(
                glands / 'annotations/test.json')
    return cfg


def test_categories_of_a_coco_file(glands):
    cfg = on_glands(glands)
    assert agreement(cfg) == []
    cfg.train_dataloader.dataset.metainfo.classes = ('glands', )
    found, = agreement(cfg)
    assert "train.json has no category 'glands'" in found
    assert "did you mean 'gland'?" in found


def test_the_metric_reads_the_file_of_its_data(glands, tmp_path):
    cfg = on_glands(glands)
    same = tmp_path / 'copy.json'
    same.write_text((glands / 'annotations/test.json').read_text())
    cfg.val_evaluator.ann_file = str(same)
    assert agreement(cfg) == []
    content = json.loads(same.read_text())
    content['images'][0]['file_name'] = 'of/another/set.png'
    same.write_text(json.dumps(content))
    found, = agreement(cfg)
    assert f'the metric reads {same}' in found
    cfg.val_evaluator.ann_file = str(glands / 'annotations/train.json')
    assert 'annotations/test.json' in agreement(cfg)[0]


@pytest.mark.parametrize('name', [
    'mcat_1xb8-coslr-70e_tcga-nsclc',
    'gimp_scratch_groupmsa-nystrom_1xb8-coslr-70e-finetune_tcga-nsclc'])
def test_widths_of_features_and_genes(name, tmp_path):
    """The trial draws slides that fit the model; the true ones may not."""
    write_slide_omic_cohort(
        tmp_path, num_cases=12, classes=('LUAD', 'LUSC'), patches=(6, 9),
        dims=8, num_genes=60, num_pathways=2, pathway_size=4)
    cfg = load(name)
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[loader].dataset.update(
            data_root=str(tmp_path), split='train', split_file=None,
            expression=dict(path='expression.tsv', unit='fpkm'))
    found = agreement(cfg)
    assert len(found) == 6
    for part in ('takes 1024, the train data have 8 -> in_dims=8',
                 'takes 60433, the val data have 60 -> num_genes=60'):
        assert any(part in text for text in found)
    cfg.model.aggregator.in_dims = 8
    for part in nested_dicts(cfg.model):
        if 'num_genes' in part:
            part['num_genes'] = 60
    assert agreement(cfg) == []


@pytest.mark.parametrize(('begin', 'is_red'), [(40, False), (300, True)])
def test_a_hook_that_begins_after_the_end(begin, is_red):
    cfg = load(PRETRAINING)
    cfg.default_hooks.attention_mask.begin = begin
    found = red(check_agreement(cfg, Parts()))
    assert len(found) == is_red
    if is_red:
        assert 'AttentionMaskHook begins before epoch 300' in found[0]
        assert 'training ends after 300' in found[0]


def test_a_hook_for_lesions_without_any(lesions, tmp_path):
    cfg = on_images(load(PRETRAINING), lesions)
    cfg.model.head.num_classes = 4
    assert agreement(cfg) == []
    write_split(lesions, 'bare', lambda split, line: line.rpartition(',')[0])
    cfg.train_dataloader.dataset.split_folder = 'splits/bare'
    assert agreement(cfg) == []
    found, = check_agreement(cfg, build_parts(cfg))
    assert found.status == 'yellow'
    assert 'no image has a lesion mask' in found.message
    assert 'lesion_coverage=None' in found.mend
    # The run goes on all the same: the hook rests.
    finding = run_reduced(cfg, tmp_path, 2, build_parts(cfg).datasets)
    assert finding.status == 'green', finding
    cfg.default_hooks.lesion_coverage = None
    assert check_agreement(cfg, build_parts(cfg)) == []


def test_a_split_of_one_class(lesions, tmp_path):
    """NaN where nothing is chosen by it; else refused, here and in a run."""
    write_split(lesions, 'one', lambda split, line: line if split == 'train'
                or ',normal,' in line or ',label' in line else None)
    cfg = on_images(load(CLASSIFIER), lesions)
    cfg.model.head.num_classes = 4
    for name in ('train_dataloader', 'val_dataloader'):
        cfg[name].dataset.split_folder = 'splits/one'
    cfg.default_hooks.checkpoint.save_best = 'disease/auc'
    parts = build_parts(cfg)
    found, = red(check_agreement(cfg, parts))
    assert 'disease/auc will be NaN in every validation: all images are of ' \
        'class 0' in found
    refused = run_reduced(cfg, tmp_path / 'a', 2, parts.datasets)
    assert "save_best is 'disease/auc', which will be NaN" in refused.message
    cfg.default_hooks.checkpoint.save_best = 'disease/top1'
    yellow, = check_agreement(cfg, parts)
    assert yellow.status == 'yellow'
    finding = run_reduced(cfg, tmp_path / 'b', 2, parts.datasets)
    assert finding.status == 'green', finding


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


def test_weights_of_a_pretraining_fit_its_classifier(tmp_path):
    """All but what the load check lets pass, such as the decoder's norm."""
    classifier = load('vit-mini-p8_msmae_1xb64-6e_brain-tumor-mri')
    before = classifier.model.backbone.init_cfg
    model = build_parts(load(source_of(before))).model
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'before.pth')
    before.checkpoint = str(tmp_path / 'before.pth')
    finding, = check_module_weights(build_parts(classifier).model, classifier)
    assert finding.status == 'green', finding
    assert '(100.0 %)' in finding.message
