"""What runs of recipes cost: which are counted, once, and their sums."""

import csv
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from commands import call, load

from mmmedmask.inspection import known_data
from mmmedmask.shrinking.model_sizes import kind_of

TOOL = 'analysis_tools/estimate_runs.py'
PRETRAIN = 'cmim_resnet18_8xb32-coslr-800e_nct'
DETECT = 'mask-rcnn_cmim-resnet18-fpn_8xb2-1x_'
CLASSIFY = 'mean-pool_1xb8-coslr-70e_tcga-nsclc'
LR = 'optim_wrapper.optimizer.lr'


def write_recipe(folder, seeds, stage, **rows):
    """Write a recipe of rows, each a chain of stages."""
    file = folder / 'tiny.yml'
    file.write_text(yaml.safe_dump(dict(
        name='tiny', title='A tiny table', paper='Nobody (2026), Table 1',
        seeds=seeds, columns=[dict(name='score', title='Score', stage=stage,
                                   metric='score')],
        rows=[dict(name=name, title=name, stages=stages)
              for name, stages in rows.items()]), sort_keys=False))
    return file


def read_costs(folder):
    with (folder / 'run_costs.csv').open() as stream:
        return list(csv.DictReader(stream))


def test_runs_count_once_and_sums_add_up(tmp_path, monkeypatch):
    """A step of two samples takes 4 GFLOP here."""
    measured = []

    def measure_step(config, folder, **options):
        assert options == dict(mixed=False, timed=False)
        measured.append(config)
        return SimpleNamespace(flops=4e9, samples=2)

    monkeypatch.setattr('mmmedmask.inspection.measuring.measure_step',
                        measure_step)
    recipe = write_recipe(
        tmp_path, [0, 1, 2], 'detect',
        glas=dict(pretrain=PRETRAIN, detect=f'{DETECT}glas'),
        slow=dict(pretrain=PRETRAIN,
                  detect=dict(config=f'{DETECT}glas', options={LR: 0.001})),
        crag=dict(pretrain=PRETRAIN, detect=f'{DETECT}crag'),
        sam=dict(detect='segment-anything_vit-huge-box_glas'))
    resume = tmp_path / 'measured.json'
    arguments = (TOOL, '--out', tmp_path, '--tflops', 100, '--recipes',
                 recipe, '--resume', resume)
    printed = call(*arguments)
    # Another rate is another run and the same step.
    assert len(measured) == 3
    rows = read_costs(tmp_path)
    assert [row['samples'] for row in rows] == [
        str(800 * 312 * 256), '80000', '80000', '240000', '']
    assert rows[0]['rows'] == 'tiny: glas; tiny: slow; tiny: crag'
    assert rows[0]['config'] == f'cmim/{PRETRAIN}.py'
    assert rows[0]['assumed share of the peak'] == '0.15'
    assert rows[4]['not counted'] == 'is tested alone, without training'
    assert 'segment-anything_vit-huge-box_glas is not counted' in printed
    # 2 GFLOP a sample; 15 % of 100 TFLOP/s are 54 PFLOP an hour.
    pretraining, later = 800 * 312 * 256 * 2 / 1e6, 400_000 * 2 / 1e6
    one = (pretraining + later) / 54
    cells = (f'{pretraining:,.0f} | {pretraining / 54:.3g} | {later:.3g} | '
             f'{later / 54:.3g} | {one:.3g}')
    assert f'| tiny | 5, 1 not counted | {cells} | 3 | {3 * one:.3g} |' \
        in printed
    assert f'| all, each run once | 5, 1 not counted | {cells} |  | ' \
        f'{3 * one:.3g} |' in printed
    # The mean of the larger of two sides from 400 to 522, and from 768 to
    # 1,024, of images as large as most.
    for config, size in zip(measured[1:], ((715, 481), (939, 941)),
                            strict=True):
        resize, = (step for step in config.train_dataloader.dataset.pipeline
                   if kind_of(step) == 'Resize')
        assert resize.scale == size
        assert kind_of(config.model.train_cfg.rcnn.sampler) == 'FullSampler'
        assert kind_of(config.model.train_cfg.rpn.sampler) == 'RandomSampler'
    call(*arguments)
    assert len(measured) == 3


def test_operations_against_a_naive_count(tmp_path):
    """A linear layer on 2,048 patches; its input needs no gradient."""
    recipe = write_recipe(
        tmp_path, [0], 'classify', wide=dict(classify=CLASSIFY),
        narrow=dict(classify=dict(config=CLASSIFY, options={
            'model.aggregator.embed_dims': 64})))
    call(TOOL, '--out', tmp_path, '--recipes', recipe)
    for row, dims in zip(read_costs(tmp_path), (512, 64), strict=True):
        assert float(row['GFLOP per sample']) == pytest.approx(
            2 * 2 * 2048 * 1024 * dims / 1e9, rel=1e-3)
        assert row['samples'] == str(70 * 567)
        assert row['assumed share of the peak'] == '0.1'


def test_a_full_sampler_takes_all_that_it_may():
    import torch
    from mmdet.models.task_modules import AssignResult
    from mmdet.registry import TASK_UTILS
    from mmengine.structures import InstanceData
    sampler = TASK_UTILS.build(dict(
        type=load(TOOL).register_full_sampler(), num=16, pos_fraction=0.25))
    boxes = torch.tensor([[0., 0, 9, 9]]).repeat(40, 1)
    nothing = torch.zeros(40, dtype=torch.long)
    found = sampler.sample(
        AssignResult(1, nothing, torch.zeros(40), nothing - 1),
        InstanceData(priors=boxes),
        InstanceData(bboxes=boxes[:1], labels=nothing[:1]))
    assert (len(found.pos_inds), len(found.neg_inds)) == (4, 12)
    assert not found.pos_gt_labels.any()


@pytest.mark.parametrize(('recipe', 'parts'), [
    ('gimp_triplets --tflops 0', ['--tflops must be positive, got 0']),
    ('bags_crc5', ["'data/crc5-bags", 'known are NCT', "'busi'"]),
    ('cmim_tabel1', ["'cmim_tabel1'", 'Did you mean cmim_table1'])])
def test_names_what_is_not_known(tmp_path, recipe, parts):
    printed = call(TOOL, '--out', tmp_path, '--recipes', *recipe.split(),
                   status=2)
    assert all(part in printed for part in parts), printed


def test_only_tables_and_figures_are_of_a_paper():
    pattern = load(TOOL).OF_A_PAPER
    assert pattern.fullmatch('CMIM (WACV 2024), Figure 4')
    for text in ('none (GiMP, MICCAI 2023, has one seed in its Table 2)',
                 'none: docs/results/cmim.md',
                 'No table of MSMAE (arXiv 2305.05871)'):
        assert not pattern.fullmatch(text)


def test_published_sizes_are_in_the_documentation():
    text = (Path(__file__).parents[2] / 'docs/datasets.md').read_text()
    for name, numbers in known_data.TRAINING_SAMPLES.items():
        title = known_data.KNOWN_DATA[name].title
        section = text.partition(f'\n## {title}')[2].partition('\n## ')[0]
        for split, number in numbers.items():
            # In a sentence or a row of the table of splits.
            assert re.search(
                rf'([Tt]rain |`{Path(split).name}` \| |GDC, ){number:,}'
                r'(?!,?\d)', section), (name, split)
        if name in known_data.IMAGE_SIZES:
            width, height = known_data.IMAGE_SIZES[name]
            assert f'{width} x {height} pixels' in section
