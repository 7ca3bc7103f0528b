"""check_config.py: runs that would die or do nothing are red, others not."""

import json
import shutil

import pytest
import torch
from shipped_configs import CONFIGS, load, read, source_of

from mmmedmask.inspection.agreement import check_agreement
from mmmedmask.inspection.building import Parts, build_parts
from mmmedmask.inspection.trial import run_reduced
from mmmedmask.inspection.weights import check_starting_weights
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
    *others, found = agreement(cfg)
    assert "['gland'], train_dataloader has ['glands']: a" in others[0]
    assert "train.json has no category 'glands'" in found
    assert "did you mean 'gland'?" in found


def test_one_order_of_classes_in_all_data_sets(glands, tmp_path):
    file = tmp_path / 'two.json'
    content = json.loads((glands / 'annotations/test.json').read_text())
    content['categories'].append(dict(id=2, name='lumen'))
    file.write_text(json.dumps(content))
    cfg = on_glands(glands)
    cfg.model.roi_head.bbox_head.num_classes = 2
    cfg.model.roi_head.mask_head.num_classes = 2
    for name in ('train', 'val', 'test'):
        cfg[f'{name}_dataloader'].dataset.update(
            ann_file=str(file), metainfo=dict(classes=('lumen', 'gland')))
        if name != 'train':
            cfg[f'{name}_evaluator'].ann_file = str(file)
    assert agreement(cfg) == []
    cfg.val_dataloader.dataset.metainfo.classes = ('gland', 'lumen')
    found, = agreement(cfg)
    assert "['gland', 'lumen'], train_dataloader has ['lumen', 'gl" in found
    assert "-> classes=('lumen', 'gland')" in found


def test_one_order_of_classes_in_labelled_images(lesions, tmp_path):
    shutil.copytree(lesions, tmp_path / 'other')
    names = (lesions / 'classes.txt').read_text().split()
    (tmp_path / 'other/classes.txt').write_text('\n'.join(names[::-1]))
    cfg = on_images(load(CLASSIFIER), lesions)
    cfg.model.head.num_classes = 4
    cfg.val_dataloader.dataset.data_root = str(tmp_path / 'other')
    found, = agreement(cfg)
    assert f"{names[::-1]}, train_dataloader has {names}: a label" in found


@pytest.mark.parametrize(('dtype', 'loaded', 'own', 'message'), [
    ('float32', 2, 2, None), ('float32', None, 2, None),
    ('uint16', None, None, None),
    ('float32', 2, 3, 'data_range 3, LoadTile has 2: both'),
    ('float32', 2, None, 'has no data_range -> data_range=2'),
    ('float32', None, None, '-> data_range=the largest stored value'),
    ('uint16', 4095, None, '-> data_range=4095')])
def test_colours_are_drawn_on_the_range_of_the_tiles(dtype, loaded, own,
                                                     message):
    cfg = load('cmim_resnet18_8xb32-coslr-800e_nct')
    for step in nested_dicts(cfg.train_dataloader):
        if step.get('type') == 'mmmedmask.LoadTile':
            step.update(dtype=dtype, data_range=loaded)
    cfg.model.data_preprocessor = dict(
        type='mmmedmask.CMIMDataPreprocessor', color=dict(), data_range=own)
    found = agreement(cfg)
    assert len(found) == (message is not None)
    assert not found or message in found[0]


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


@pytest.mark.parametrize('wrap', [False, True])
def test_held_out_samples_are_built(lesions, wrap):
    cfg = on_images(load(PRETRAINING), lesions)
    cfg.model.head.num_classes = 4
    if wrap:
        cfg.train_dataloader.dataset = dict(
            type='RepeatDataset', times=2,
            dataset=cfg.train_dataloader.dataset)
    hook = cfg.default_hooks.loss_floors
    assert hook.held_out == dict(split='val')
    assert agreement(cfg) == []
    for change, message in ((dict(), 'nothing is held out'),
                            (dict(split='none'), 'none')):
        hook.held_out = change
        found, = agreement(cfg)
        assert 'LossFloorsHook gets no held-out samples' in found
        assert message in found
    hook.update(held_out=dict(data_root='absent'), optional=True)
    assert agreement(cfg) == []


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


def test_weights_of_a_pretraining_fit_its_classifier(tmp_path):
    """All but what the load check lets pass, such as the decoder's norm."""
    classifier = load('vit-mini-p8_msmae_1xb64-6e_brain-tumor-mri')
    before = classifier.model.backbone.init_cfg
    model = build_parts(load(source_of(before))).model
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'before.pth')
    before.checkpoint = str(tmp_path / 'before.pth')
    finding, = check_starting_weights(build_parts(classifier).model,
                                      classifier)
    assert finding.status == 'green', finding
    assert '(100.0 %)' in finding.message
