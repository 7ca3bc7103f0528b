"""Maps of patients, and where their vectors come from."""

import csv

import numpy as np
import pytest
import torch
from commands import call
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from mmmedmask.apis import load_config
from mmmedmask.apis.patient_vectors import (
    Embeddings,
    build_models,
    extract_embeddings,
    save_embeddings,
    whole_bag_loader,
)
from mmmedmask.phantoms.slide_omic_cohort import write_slide_omic_cohort
from mmmedmask.visualization import embeddings

CONFIG = """
default_scope = 'mmpretrain'
model = dict(
    type='mmmedmask.SlideOmicClassifier',
    data_preprocessor=dict(type='mmmedmask.SlideOmicDataPreprocessor'),
    aggregator=dict(type='mmmedmask.MeanPool', in_dims=8, embed_dims=4),
    gene_encoder=dict(
        type='mmmedmask.SNN', num_genes=30, embed_dims=3, hidden_dims=(8, ),
        init_cfg=dict(type='Pretrained', checkpoint='missing.pth')),
    head=dict(type='mmmedmask.SlideOmicHead', num_classes=2))
test_dataloader = dict(batch_size=4, dataset=dict(
    type='mmmedmask.SlideOmicDataset', data_root={root!r},
    ann_file='cohort.csv', feature_root='features',
    missing_slides='keep', missing_genes='keep',
    expression=dict(path='expression.tsv', unit='fpkm'),
    pipeline=[dict(type='mmmedmask.LoadSlideFeatures'),
              dict(type='mmmedmask.RandomSubsample', max_patches=2),
              dict(type='mmmedmask.LoadExpression'),
              dict(type='mmmedmask.PackSlideOmicInputs')]))
"""


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A config with a checkpoint; its cohort lacks some slides and genes."""
    folder = tmp_path_factory.mktemp('embeddings')
    write_slide_omic_cohort(
        folder / 'data', num_cases=12, patches=(4, 8), dims=8, num_genes=30,
        num_pathways=2, pathway_size=4, cases_without_genes=2,
        cases_without_slides=1)
    config = folder / 'config.py'
    config.write_text(CONFIG.replace('{root!r}', repr(str(folder / 'data'))))
    init_default_scope('mmpretrain')
    loaded = load_config(config)
    del loaded.model.gene_encoder.init_cfg
    # Other weights than those before training, whatever ran before.
    torch.manual_seed(1234)
    model = MODELS.build(loaded.model)
    dataset = whole_bag_loader(loaded, 'test').dataset
    model.data_preprocessor.gene_scale.set(dataset.fit_gene_scale())
    torch.save(dict(state_dict=model.state_dict()), folder / 'm.pth')
    return config, folder / 'm.pth'


def test_vectors_of_whole_bags(run):
    config = load_config(run[0])
    before, model = build_models(config, ['none', str(run[1])], 'none')
    loader = whole_bag_loader(config, 'test')
    found = extract_embeddings(model, loader)
    dataset = loader.dataset
    assert found.case_ids == [
        dataset.get_data_info(place)['case_id'] for place in range(12)]
    assert found.labels.tolist() == dataset.get_gt_labels().tolist()
    assert {name: vector.shape for name, vector in found.vectors.items()
            } == dict(patient=(12, 7), image=(12, 4), genes=(12, 3))
    lacks = {name: np.isnan(vector).any(axis=1).sum()
             for name, vector in found.vectors.items()}
    assert lacks == dict(patient=0, image=1, genes=2)
    for place in range(12):
        patches = dataset[place]['inputs']['patches']
        if patches is None:
            assert np.isnan(found.vectors['image'][place]).all()
            continue
        assert len(patches) > 2
        image, _ = model.aggregator(patches[None], None)
        np.testing.assert_allclose(
            found.vectors['image'][place], image[0].detach(), atol=1e-6)
        np.testing.assert_array_equal(
            found.vectors['image'][place], found.vectors['patient'][place, :4])
    # The same in what wraps the data set.
    config.test_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[config.test_dataloader.dataset])
    wrapped, = whole_bag_loader(config, 'test').dataset.datasets
    assert torch.equal(wrapped[place]['inputs']['patches'], patches)
    # Before training: other weights, always the same, the same genes.
    first = extract_embeddings(before, loader).vectors['genes']
    again = extract_embeddings(
        build_models(config, ['none', str(run[1])], 'none')[0],
        loader).vectors['genes']
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, found.vectors['genes'], equal_nan=True)


def test_who_has_no_slides_has_no_vector_of_gimp(run):
    loader = whole_bag_loader(load_config(run[0]), 'test')
    model = MODELS.build(dict(
        type='mmmedmask.GiMP', aggregator=dict(
            type='mmmedmask.NystromAggregator', in_dims=8, embed_dims=4,
            num_heads=2),
        gene_encoder=dict(
            type='mmmedmask.LinearGeneEncoder', num_genes=30, embed_dims=3),
        contrast_head=dict(type='mmmedmask.TripletHead'))).eval()
    model.data_preprocessor.gene_scale.set(loader.dataset.fit_gene_scale())
    vectors = extract_embeddings(model, loader).vectors
    lacks = np.isnan(vectors['image']).all(axis=1)
    assert lacks.tolist() == (loader.dataset.get_num_patches() == 0).tolist()
    assert lacks.sum() == 1
    assert np.isfinite(vectors['patient']).all()


def command(*arguments, status=0):
    return call('visualizations/visualize_embeddings.py', *arguments,
                status=status)


def test_command(run, tmp_path):
    config, checkpoint = run
    output = command(
        config, 'none', checkpoint, '--out', tmp_path / 'a' / 'map.png',
        '--vectors', 'patient', 'genes', '--export', tmp_path / 'v.csv')
    assert 'untrained: 2 patients have no genes' in output
    with Image.open(tmp_path / 'a' / 'map.png') as picture:
        assert min(picture.size) > 600
    with open(tmp_path / 'v_1.csv', newline='') as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 12
    assert [name for name in rows[0] if name.startswith('genes')] == [
        'genes_0', 'genes_1', 'genes_2']
    assert rows[0]['label'] in ('class_a', 'class_b')
    command(config, checkpoint, '--out', tmp_path / 'map.png',
            '--export', tmp_path / 'v.npz')
    with np.load(tmp_path / 'v.npz') as arrays:
        assert set(arrays) == {'case_ids', 'labels', 'classes', 'patient',
                               'image', 'genes'}
        np.testing.assert_allclose(
            arrays['patient'],
            [[float(row[f'patient_{place}']) for place in range(7)]
             for row in rows], rtol=1e-6)


def test_vectors_are_written_though_no_picture_can_be(run, tmp_path,
                                                      monkeypatch):
    def fail(*arguments):
        raise ValueError('at most 10 classes can be told apart')

    monkeypatch.setattr(embeddings, 'draw_embeddings', fail)
    assert 'at most 10 classes' in command(
        *run, '--out', tmp_path / 'map.png', '--export', tmp_path / 'v.npz',
        status=1)
    assert (tmp_path / 'v.npz').is_file()


@pytest.mark.parametrize(('arguments', 'message'), [
    (['none'], "at least one checkpoint besides 'none'"),
    (['CHECKPOINT', '--split', 'val'],
     "no val_dataloader, it has those of ['test']"),
    (['CHECKPOINT', '--titles', 'a', 'b'], '1 checkpoints need as many')])
def test_what_the_command_refuses(run, arguments, message):
    arguments = [str(run[1]) if one == 'CHECKPOINT' else one
                 for one in arguments]
    assert message in command(
        run[0], *arguments, '--out', 'never.png', status=1)
    assert "end with .npz or .csv, got 'a.txt'" in command(
        run[0], 'none', '--out', 'never.png', '--export', 'a.txt', status=2)


def test_vectors_are_not_written_over_the_cohort(run):
    cohort = run[0].parent / 'data/cohort.csv'
    before = cohort.read_text()
    assert 'cohort.csv, which is read' in command(
        *run, '--out', 'never.png', '--export',
        cohort.parent / '../data/cohort.csv', status=1)
    assert cohort.read_text() == before


def test_picture_has_the_colours_of_its_classes():
    points = np.random.default_rng(0).normal(size=(30, 2))
    panel = embeddings.EmbeddingPanel('a', points, np.zeros(30, int))
    one, two = (embeddings.draw_embeddings(
        [[panel] * columns] * rows, ['x', 'y'][:classes]) for rows,
                columns, classes in ((1, 1, 1), (2, 3, 2)))
    assert two.shape[0] > 1.6 * one.shape[0]
    assert two.shape[1] > 2.5 * one.shape[1]
    blue, orange = np.array([31, 119, 180]), np.array([255, 127, 14])
    for picture, has_orange in ((one, False), (two, True)):
        assert (abs(picture.astype(int) - blue).max(axis=2) < 4).any()
        assert (abs(picture.astype(int) - orange).max(axis=2) < 4).any() == (
            has_orange)


@pytest.mark.parametrize('columns', [1, 2])
def test_no_name_is_cut_off_or_lies_over_another(monkeypatch, columns):
    """The legend and all titles lie within the picture, beside one another."""
    figures = []
    monkeypatch.setattr(embeddings, 'draw_figure', figures.append)
    title = 'best_probe_gray_knn_epoch_800_of_the_third_run: CLS_pat'
    panel = embeddings.EmbeddingPanel(
        title, np.random.default_rng(0).normal(size=(9, 2)), np.zeros(9, int))
    for number in range(1, 11):
        names = [f'_{place}_adenocarcinoma, moderately differentiated'
                 for place in range(number)]
        embeddings.draw_embeddings([[panel] * columns], names)
        figure = figures.pop()
        figure.draw_without_rendering()
        legend, = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == names
        boxes = [legend.get_window_extent(), *(
            axis.get_tightbbox() for axis in figure.axes)]
        for place, box in enumerate(boxes):
            assert figure.bbox.contains(*box.min)
            assert figure.bbox.contains(*box.max)
            assert not box.count_overlaps(boxes[:place])


def test_bad_maps():
    with pytest.raises(ValueError, match=r'got \(4, 3\)'):
        embeddings.project_tsne(np.zeros((4, 3)))
    with pytest.raises(ValueError, match='finite'):
        embeddings.project_tsne(np.full((9, 3), np.nan))
    with pytest.raises(ValueError, match='all 60 are equal'):
        embeddings.project(np.full((60, 70), .1))
    with pytest.raises(ValueError, match='all 9 are equal'):
        embeddings.project_tsne(1e-30 * np.eye(9))
    with pytest.raises(ValueError, match='perplexity must be positive'):
        embeddings.project_tsne(np.eye(9), perplexity=0)
    panel = embeddings.EmbeddingPanel('a', np.zeros((3, 2)), np.zeros(3, int))
    with pytest.raises(ValueError, match=r'got \[2, 1\]'):
        embeddings.draw_embeddings([[panel, panel], [panel]], ['x'])
    with pytest.raises(ValueError, match='at most 10 classes'):
        embeddings.draw_embeddings(
            [[panel]], [str(index) for index in range(11)])


def test_vectors_are_saved_under_endings_of_any_case(tmp_path):
    patients = Embeddings(['p'], np.array([0]), ['a'],
                          {'patient': np.array([[1., 2.5]])})
    save_embeddings(tmp_path / 'v.CSV', patients)
    save_embeddings(tmp_path / 'v.NPZ', patients)
    assert (tmp_path / 'v.CSV').read_text().split()[1] == 'p,a,1,2.5'
    with np.load(tmp_path / 'v.NPZ') as arrays:
        np.testing.assert_array_equal(arrays['patient'], [[1, 2.5]])
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(ValueError, match=r"not '.*v\.txt'"):
        save_embeddings(tmp_path / 'v.txt', patients)
