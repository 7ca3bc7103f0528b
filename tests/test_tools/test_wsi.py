"""The tools for slides, most of them run in this process, to save time."""

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from commands import call, run, write_sbatch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image, ImageOps
from shipped_configs import write_shrunk

from mmmedmask.datasets import SlideOmicDataset
from mmmedmask.datasets.slides.slide_features import SlideFeatures
from mmmedmask.phantoms.whole_slides import draw_slide, write_slide

MODEL = """
default_scope = 'mmpretrain'
model = dict(
    type='mmmedmask.SlideOmicClassifier',
    aggregator=dict(
        type='mmmedmask.CLAM_MB', in_dims=256, num_classes=2, embed_dims=8),
    head=dict(type='mmmedmask.ClasswiseSlideOmicHead', num_classes=2),
    data_preprocessor=dict(type='mmmedmask.SlideOmicDataPreprocessor'))
test_dataloader = dict(
    dataset=dict(
        type='mmmedmask.SlideOmicDataset', ann_file='cohort.csv',
        feature_root='out/h5_files', modalities=['slides'], split='test',
        metainfo=dict(classes=['aca', 'scc']), test_mode=True,
        pipeline=[
            dict(type='mmmedmask.LoadSlideFeatures'),
            dict(type='mmmedmask.PackSlideOmicInputs')
        ]))
"""
EXTRACT = 'wsi/extract_features.py'


@pytest.fixture
def tile_folders(tmp_path):
    random = np.random.default_rng(0)
    lines = ['cluster_label,img_path']
    for label in ('aca', 'scc'):
        (tmp_path / label).mkdir()
        for number in range(12):
            tile = random.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(tile).save(tmp_path / label / f'{number}.png')
            lines.append(f'{label}{number // 2},./{label}/{number}.png')
    (tmp_path / 'groups.csv').write_text('\n'.join(lines))
    return [tmp_path / 'aca', tmp_path / 'scc']


def test_tiles_become_a_cohort_that_the_data_set_reads(tile_folders, tmp_path):
    out = tmp_path / 'out'
    command = ('wsi/tiles_to_bags.py', *tile_folders, '--out', out,
               '--groups', tmp_path / 'groups.csv', '--encoder',
               'resnet18-block3', '--random-weights', 0, '--tile-size', 32,
               '--bag-size', 4, '--split', .34, 0, .66, '--mosaics',
               '--folds', 3)
    printed = call(*command)
    assert "24 tiles in 6 bags {'train': 2, 'test': 4}" in printed
    dataset = SlideOmicDataset(
        ann_file=str(out / 'cohort.csv'), feature_root=str(out / 'features'),
        split='train', modalities=['slides'], pipeline=[])
    assert dataset.metainfo['classes'] == ('aca', 'scc')
    listed = pd.read_csv(out / 'tiles.csv')
    assert (listed.groupby('group').bag.nunique() == 1).all()
    assert len(listed) == 24
    features = SlideFeatures(out / 'features' / 'aca-0000.h5')
    assert (features.dims, features.encoder) == (256, 'resnet18-block3')
    mosaic = np.asarray(Image.open(out / 'mosaics' / 'aca-0000.png'))
    assert mosaic.shape == (64, 64, 3)
    folds = [pd.read_csv(out / 'folds' / f'splits_{fold}.csv')
             for fold in range(3)]
    assert sorted(case for fold in folds for case in fold.test.dropna()) \
        == sorted(pd.read_csv(out / 'cohort.csv').case_id)
    for fold in folds:
        assert not fold.val.any()
        assert len(fold.train.dropna()) == 4
    # A second call goes on where the first one stopped.
    (out / 'features' / 'scc-0001.h5').unlink()
    assert call(*command).count('was there') == 5
    (out / 'folds' / 'splits_3.csv').write_text('of another draw')
    assert 'has other splits already' in call(*command, status=1)
    other = command[:command.index('--folds')]
    printed = call(*other, '--seed', 1, status=1)
    assert re.search(r'was made with other settings \(.*tiles \[', printed)
    # Other pictures of the same names.
    Image.new('RGB', (40, 40)).save(tile_folders[0] / '0.png')
    printed = call(*other, status=1)
    assert 'was made with other settings (pictures ' in printed
    printed = call(*other, '--folds', 7, '--out', tmp_path / 'new', status=1)
    assert 'has 3 cases: 7 folds need at least 7' in printed
    assert not (tmp_path / 'new' / 'features').exists()
    # A test set of its own.
    (tmp_path / 'more' / 'aca').mkdir(parents=True)
    for path in tile_folders[0].glob('*.png'):
        ImageOps.invert(Image.open(path)).save(
            tmp_path / 'more' / 'aca' / path.name)
    groups = command[5:7]
    command = (command[0], tile_folders[0], '--test-folders',
               tmp_path / 'more' / 'aca', '--out', tmp_path / 'own',
               *command[7:15])
    assert 'with --test-folders there are bags that must not train' in call(
        *command, '--folds', 3, status=2)
    assert "24 tiles in 6 bags {'train': 3, 'test': 3}" in call(
        *command, '--split', 1, 0, 0)
    assert (tmp_path / 'own' / 'features' / 'test-aca-0002.h5').is_file()
    assert '12 tiles of the test set are called as tiles in training' in call(
        *command, *groups, '--split', 1, 0, 0, status=1)


def test_tiles_to_bags_explains_what_is_wrong(tile_folders, tmp_path):
    command = ('wsi/tiles_to_bags.py', *tile_folders, '--out',
               tmp_path / 'out', '--encoder', 'resnet18-block3',
               '--random-weights', 0, '--bag-size', 2)
    printed = call(*command, '--device', 'cuda:99', status=1)
    assert printed.splitlines()[-1].startswith(
        "tiles_to_bags.py: there is no device 'cuda:99'")
    broken = [folder / '0.png' for folder in tile_folders]
    for path in broken:
        # Others than one another, which would be copies.
        path.write_bytes(f'no picture {path}'.encode())
    printed = call(*command, status=1)
    assert 'tiles_to_bags.py: 2 tiles cannot be used: mend or' in printed
    # All, and the bags without them are done.
    for path in broken:
        assert printed.count(f'Cannot read image {path}: ') == 1
    assert len(list((tmp_path / 'out/features').iterdir())) == 10
    assert not (tmp_path / 'out/cohort.csv').exists()


def test_extracting_features_and_drawing_attention(tmp_path):
    folder = tmp_path / 'slides'
    write_slide(folder / 'a.tif',
                draw_slide((1024, 768), [(256, 128, 768, 512)]), mpp=1.0)
    write_slide(folder / 'b.tif', draw_slide((128, 128), []), None, levels=1)
    command = extraction(folder)
    printed = call(*command, status=1)
    assert '2/2 b: failed' in printed
    assert '2 slides: 1 done, 1 failed; 12 tiles' in printed
    assert 'give it with --slide-mpp' in printed
    assert printed.splitlines()[-1].startswith(
        'extract_features.py: 1 of 2 slides failed, see the csv in')
    coarse = (*command, '--slide-mpp', 2, '--out', tmp_path / 'coarse')
    assert 'per pixel, but 2 are given' in call(*coarse, status=1)
    assert '1 done, 1 was there; 48 tiles' in call(
        *coarse, '--trust-slide-mpp')
    (tmp_path / 'list.csv').write_text('slide_id,mpp\na,\nb,1.0\n')
    printed = call(*command, '--csv', tmp_path / 'list.csv')
    assert '1 empty, 1 was there' in printed
    assert 'Empty, no tile has enough tissue: b' in printed
    printed = call(*command, '--csv', tmp_path / 'list.csv', '--tile-size', 64,
                   '--out', tmp_path / 'large')
    assert 'b: too small, a tile is 256 x 256 pixels of the' in printed
    assert 'Too small, no tile fits: b' in printed
    assert 'min_tissue must be in (0, 1], got 0.0' in call(
        *command, '--min-tissue', 0, status=1)
    (tmp_path / 'model.py').write_text(MODEL)
    config = Config.fromfile(tmp_path / 'model.py')
    init_default_scope('mmpretrain')
    torch.save(dict(state_dict=MODELS.build(config.model).state_dict(),
                    meta=dict(dataset_meta=dict(classes=('aca', 'scc')))),
               tmp_path / 'model.pth')
    drawing = ('visualizations/visualize_slide_attention.py',
               tmp_path / 'model.py', tmp_path / 'model.pth', '--features',
               tmp_path / 'out' / 'h5_files' / 'a.h5', '--out')
    printed = call(*drawing, tmp_path / 'heat')
    assert 'a: 12 patches on' in printed
    assert 'thumbnails/a.png' in printed
    patch_map = json.loads((tmp_path / 'heat' / 'a.geojson').read_text())
    assert len(patch_map['features']) == 12
    assert set(patch_map['features'][0]['properties']['measurements']) == {
        f'{what} {name}' for name in ('aca', 'scc')
        for what in ('attention', 'probability')} | {
        f'attention {name} percentile' for name in ('aca', 'scc')}
    # With the slide it is the same picture, but for the thumbnail's source.
    printed = call(*drawing, tmp_path / 'slide', '--slide', folder,
                   '--no-classes')
    assert f'on {folder / "a.tif"}' in printed
    assert not (tmp_path / 'slide' / 'a_classes.png').exists()
    heat, slide = (np.asarray(Image.open(
        tmp_path / name / 'a_attention.png')).astype(int)
        for name in ('heat', 'slide'))
    assert heat.shape == slide.shape
    assert np.abs(heat - slide).mean() < 2
    # The slide without tissue stops nothing.
    printed = call(*drawing[:4], tmp_path / 'out' / 'h5_files' / 'b.h5',
                   drawing[4], '--out', tmp_path / 'both')
    assert 'Nothing is drawn of what has no patches: b' in printed
    thumbnail = '--thumbnail', tmp_path / 'out' / 'thumbnails' / 'a.png'
    for more in ((*drawing[:5], tmp_path / 'out' / 'h5_files' / 'b.h5'),
                 (*drawing[:5], '--slide', folder)):
        assert 'is the picture of one slide' in call(
            *more, *thumbnail, '--out', tmp_path / 'wrong', status=1)
    assert (tmp_path / 'both' / 'a.geojson').read_text() == (
        tmp_path / 'heat' / 'a.geojson').read_text()
    # Neither does one that is broken, but for the exit status.
    (tmp_path / 'c.h5').write_bytes(b'no features')
    printed = call(*drawing[:4], tmp_path / 'c.h5', drawing[4], '--out',
                   tmp_path / 'broken', status=1)
    assert '1 slides cannot be drawn:' in printed
    assert f'{tmp_path / "c.h5"} is not an HDF5' in printed
    assert (tmp_path / 'broken' / 'a.geojson').is_file()
    # Neither does one without the coordinates that the model needs.
    (tmp_path / 'placed.py').write_text(MODEL.replace(
        'CLAM_MB', 'TransMIL').replace('Classwise', '').replace(
        'in_dims=256, num_classes=2', 'in_dims=256, num_heads=2'))
    config = Config.fromfile(tmp_path / 'placed.py')
    torch.save(MODELS.build(config.model).state_dict(), tmp_path / 'p.pth')
    torch.save(torch.randn(9, 256), tmp_path / 'c.pt')
    printed = call(drawing[0], tmp_path / 'placed.py', tmp_path / 'p.pth',
                   '--features', tmp_path / 'c.pt', *drawing[4:],
                   tmp_path / 'placed', status=1)
    assert 'c: TransMIL with positions on the slide needs' in printed
    assert (tmp_path / 'placed' / 'a.geojson').is_file()
    # By its case, as the data set of the config gives it.
    (tmp_path / 'cohort.csv').write_text(
        'case_id,slide_id,label,split\np,a,aca,test\n')
    options = ('--cfg-options',
               f'test_dataloader.dataset.data_root={tmp_path}')
    printed = call(*drawing[:3], '--case', 'p', '--out', tmp_path / 'case',
                   *options)
    assert 'a: 12 patches on' in printed
    same = json.loads((tmp_path / 'case' / 'a.geojson').read_text())
    assert same == patch_map
    printed = call(*drawing[:3], '--case', 'q', '--out', tmp_path / 'case',
                   *options, status=1)
    assert "no case 'q' in the test set; it has ['p']" in printed
    # Files of one name: the table tells the slides apart, or nothing does.
    files = [tmp_path / patient / 'features.h5' for patient in ('p1', 'p2')]
    for file in files:
        file.parent.mkdir()
        shutil.copy(drawing[4], file)
    printed = call(*drawing[:4], *files, '--out', tmp_path / 'twice', status=1)
    assert f'{files[0]} and {files[1]} are both called features' in printed
    assert not (tmp_path / 'twice').exists()
    (tmp_path / 'cohort.csv').write_text(
        'case_id,slide_id,label,split,features_path\n'
        'p,a,aca,test,p1/features.h5\np,z,aca,test,p2/features.h5\n')
    printed = call(*drawing[:3], '--case', 'p', '--slide', folder, '--out',
                   tmp_path / 'twice', *options)
    assert f'a: 12 patches on {folder / "a.tif"}' in printed
    for name in 'az':
        drawn = json.loads((tmp_path / f'twice/{name}.geojson').read_text())
        assert len(drawn['features']) == 12


def test_attention_through_the_genes_of_a_case(tmp_path):
    file, config = write_shrunk('mcat_1xb8-coslr-70e_tcga-nsclc', tmp_path)
    init_default_scope('mmpretrain')
    dataset = DATASETS.build(config.test_dataloader.dataset)
    torch.manual_seed(0)
    model = MODELS.build(config.model).eval()
    train = DATASETS.build(config.train_dataloader.dataset)
    model.data_preprocessor.gene_scale.set(train.fit_gene_scale())
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    cases = [dataset.get_data_info(place) for place in range(2)]
    drawing = ('visualizations/visualize_slide_attention.py', file,
               tmp_path / 'model.pth', '--patch-size', 256, '--out',
               tmp_path / 'heat')
    call(*drawing, '--case', *(case['case_id'] for case in cases))
    batches = [model.data_preprocessor(pseudo_collate([dataset[place]]))[
        'inputs'] for place in range(2)]

    @torch.no_grad()
    def attention(slide, genes):
        return model.aggregator.attention(
            slide['patches'], slide['valid'], slide['coords'],
            genes['genes'], genes['has_genes'])[0].numpy()

    for case, batch, other in zip(cases, batches, batches[::-1], strict=True):
        name = Path(case['slides'][0]['path']).stem
        patches = json.loads((tmp_path / 'heat' / f'{name}.geojson')
                             .read_text())['features']
        expected = attention(batch, batch)
        drawn = np.array([[
            patch['properties']['measurements'][f'attention set {row}']
            for patch in patches] for row in range(len(expected))])
        np.testing.assert_allclose(drawn, expected, atol=1e-6)
        assert (tmp_path / 'heat' / f'{name}_attention.png').is_file()
        # The genes of somebody else look at other patches.
        assert np.abs(drawn - attention(batch, other)).max() > 1e-3
    # A file of features says nothing about genes.
    printed = call(*drawing, '--features', cases[0]['slides'][0]['path'],
                   status=1)
    assert 'name the patient with --case' in printed


@pytest.fixture
def slides(tmp_path):
    """Two slides with tissue, one without, and one that is broken."""
    for name, boxes in (('a', [(256, 128, 768, 512)]), ('b', []),
                        ('c', [(0, 0, 512, 384)])):
        write_slide(tmp_path / f'slides/{name}.tif',
                    draw_slide((1024, 768), boxes), mpp=1.0)
    (tmp_path / 'slides' / 'broken.svs').write_text('no slide at all')
    return tmp_path / 'slides'


def extraction(slides, *arguments):
    """The command line that extracts their features in two jobs."""
    return (EXTRACT, slides, '--out', slides.parent / 'out', '--encoder',
            'resnet18-block3', '--random-weights', 0, '--tile-size', 32,
            '--mpp', 4, '--workers', 0, *arguments)


def test_shards_of_the_engine_do_all_but_the_broken_slide(slides):
    pytest.importorskip('snakemake')
    out = slides.parent / 'out'
    command = extraction(slides, '--shards', 2, '--cores', 2)
    printed = call(*command, '--dry-run')
    assert 'shard 1/2, to do: b, broken\nshard 2/2, to do: a, c' in printed
    assert re.search(r'extract_shard +2\n', printed)
    assert not (out / 'h5_files').exists()
    printed = call(*command, status=1)
    assert '4 slides: 2 done, 1 empty, 1 failed; 24 tiles' in printed
    assert re.search('^broken: .*broken.svs can be read', printed, re.M)
    assert '1 of 4 slides failed' in printed.splitlines()[-1]
    assert sorted(path.name for path in (out / 'h5_files').iterdir()) == [
        'a.h5', 'b.h5', 'c.h5']
    assert SlideFeatures(out / 'h5_files' / 'a.h5').num_patches == 12
    # A second call has nothing to do and tells the same of the slides.
    manifests = sorted((out / 'manifests').iterdir())
    assert len(manifests) == 2
    again = call(*command, status=1)
    assert 'Nothing to be done' in again
    assert sorted((out / 'manifests').iterdir()) == manifests
    assert again.splitlines()[-3:] == printed.splitlines()[-3:]
    # A slide that was replaced is looked at again.
    (slides / 'broken.svs').write_text('no slide, again')
    assert re.search(r'extract_shard +1\n', call(*command, '--dry-run'))
    (slides / 'broken.svs').write_text('no slide at all')
    # Other settings have other reports; what is behind -- goes to Snakemake.
    assert 'shard 2/2, to do: a, c' in call(*command, '--mpp', 2, '--dry-run')
    printed = call(*command, '--dry-run', '--', '--forceall')
    assert re.search(r'extract_shard +2\n', printed)
    # The job that fails is tried again when that is asked for.
    printed = call(*command, '--retry-failed', '--dry-run')
    assert re.search(r'extract_shard +1\n', printed)
    assert 'shard 1/2, to do: b, broken\nshard 2/2, done: a, c' in printed
    printed = call(*command, '--retry-failed', status=1)
    assert len(list((out / 'manifests').iterdir())) == 3
    assert '4 slides: 2 done, 1 failed, 1 was there; 24 tiles' in printed


def test_reports_count_as_long_as_their_features_are_there(
        slides, monkeypatch):
    pytest.importorskip('snakemake')
    asked = []
    monkeypatch.setattr(
        'mmmedmask.experiments.extraction.run_snakemake',
        lambda *arguments, **engine: asked.append((arguments[2], engine)) or 0)
    command, h5 = extraction(slides), slides.parent / 'out' / 'h5_files'
    call(*command, '--shard', '1/2', status=1)
    call(*command, '--shard', '2/2')
    first, = (slides.parent / 'out' / 'shards').glob('*/1-of-2.json')
    second = first.with_name('2-of-2.json')

    def kept(*arguments):
        call(*command, '--shards', 2, *arguments, status=1)
        return first.is_file(), second.is_file()

    assert kept() == (True, True)
    (h5 / 'a.h5').unlink()
    printed = call(*command, '--shards', 2, '--dry-run')
    assert 'shard 1/2, done: b, broken\nshard 2/2, to do: a, c' in printed
    assert asked[-1][1]['options'] == ('--forcerun', str(second), '--dry-run')
    assert kept() == (True, False)
    call(*command, '--shard', '2/2')
    assert kept() == (True, True)
    # Other settings in between, which leave reports of their own.
    call(*command, '--mpp', 2, '--overwrite', '--shard', '2/2')
    assert kept() == (True, False)
    assert 'or --overwrite' in call(*command, '--shard', '2/2', status=1)
    assert kept() == (True, True)
    assert kept('--overwrite') == (False, False)
    weights = slides.parent / 'model.safetensors'
    weights.touch()
    kept('--encoder', f'timm:local-dir:{slides.parent}')
    assert all(str(weights) in files
               for files in asked[-1][0]['inputs'].values())


def test_a_cluster_extracts_shard_by_shard(slides, tmp_path):
    pytest.importorskip('snakemake_executor_plugin_cluster_generic')
    command = extraction(slides, '--shards', 2, '--executor',
                         'cluster-generic', '--jobs', 2)
    printed = call(*command, '--', *write_sbatch(tmp_path), status=1)
    assert '4 slides: 2 done, 1 empty, 1 failed; 24 tiles' in printed
    assert '1 of 4 slides failed' in printed.splitlines()[-1]
    submitted = (tmp_path / 'submitted').read_text().splitlines()
    assert len(submitted) == 2
    assert all(line.startswith('--gpus=0 ') for line in submitted)


def test_a_job_on_a_gpu_asks_for_one(slides, monkeypatch):
    pytest.importorskip('snakemake')
    asked = []
    monkeypatch.setattr(
        'mmmedmask.experiments.extraction.run_snakemake',
        lambda *arguments, **engine: asked.append((arguments[2], engine)) or 0)
    monkeypatch.setattr('mmmedmask.experiments.environment._list_gpus',
                        lambda: '\n'.join(f'GPU {n}: A' for n in range(8)))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,5,7,8')
    call(*extraction(slides, '--shards', 2, '--device', 'cuda'), status=1)
    call(*extraction(slides, '--shards', 2, '--device', 'cuda',
                     '--resources', 'gpus=2'), status=1)
    call(*extraction(slides, '--shards', 2), status=1)
    assert [(config['gpus'], engine['resources']) for config, engine in asked
            ] == [(1, dict(gpus=3)), (1, dict(gpus=2)), (0, {})]
    assert '--device cuda gives each job one' in call(*extraction(
        slides, '--shards', 2, '--device', 'cuda:1'), status=2)


def test_a_job_that_ends_early_is_named_with_its_log(slides):
    pytest.importorskip('snakemake')
    printed = call(*extraction(slides, '--shards', 1, '--weights', 'a.pth'),
                   status=1)
    log, = (slides.parent / 'out' / 'shards').glob('*/1-of-1.log')
    assert printed.splitlines()[-1] == (
        f'extract_features.py: shard 1/1 did not end, see {log}')
    assert "either weights ('a.pth') or random ones" in log.read_text()


def test_a_shard_by_hand(slides):
    printed = run(sys.executable, 'tools/' + EXTRACT, *extraction(slides)[1:],
                  '--shard', '2/2', cwd=Path(__file__).parents[2])
    assert '2 slides: 2 done; 24 tiles' in printed
    assert sorted(path.name for path in
                  (slides.parent / 'out' / 'h5_files').iterdir()) == [
        'a.h5', 'c.h5']
    report, = (slides.parent / 'out' / 'shards').glob('*/*')
    assert report.name == '2-of-2.json'
    assert [slide['status'] for slide in json.loads(report.read_text())] == [
        'done', 'done']


@pytest.mark.parametrize(('arguments', 'status', 'message'), [
    (['--shard', '3/2'], 2, "expected I/N with I from 1 to N.*got '3/2'"),
    (['--shard', '1/2', '--shards', '2'], 2, 'give one of them'),
    (['--trust-slide-mpp'], 2, 'needs --slide-mpp, or --csv'),
    (['--shard', '1/9'], 1, r'number of shards must be in \[1, 4\], got 9'),
    (['--resources', 'gpus'], 2, 'expected NAME=NUMBER'),
    (['--dry-run', '--cores', '2'], 2,
     'makes jobs, which --cores, --dry-run needs'),
    (['--shards', '2', '--jobs', '2'], 2, '--jobs 2 is for --executor NAME'),
    (['--', '--forceall'], 1, 'are for Snakemake, which --shards N starts')])
def test_bad_shards_are_refused(slides, arguments, status, message):
    assert re.search(message, call(*extraction(slides, *arguments),
                                   status=status))


def test_without_snakemake_one_line_says_what_to_install(slides, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda name, *others:
        None if name == 'snakemake' else find(name, *others))
    printed = call(*extraction(slides, '--shards', 2), status=1)
    assert printed.splitlines()[-1] == (
        'extract_features.py: Snakemake is not installed, which runs the '
        'jobs: pip install mmmedmask[experiments]')
