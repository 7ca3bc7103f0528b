"""New patients with slides and genes get the classes of tools/test.py."""

import pickle

import numpy as np
import pytest
import torch
from mmengine.config import Config
from shipped_configs import load

from mmmedmask import apis
from mmmedmask.apis.slide_inferencer import SlideInferencer
from mmmedmask.datasets.slides.feature_files import SlideFeatureError
from mmmedmask.phantoms.slide_omic_cohort import write_slide_omic_cohort
from mmmedmask.shrinking.drawn_data import COHORT_DIMS, COHORT_GENES
from mmmedmask.shrinking.shrink import shrink_config
from mmmedmask.util.table_files import read_table

GIMP = 'gimp_groupmsa-nystrom_1xb8-coslr-70e-finetune_tcga-nsclc'
MCAT = 'mcat_1xb8-coslr-70e_tcga-nsclc'
CLASSES = ('LUAD', 'LUSC')


def is_gimp(infer):
    return infer.model.fusion is not None


@pytest.fixture(scope='module', params=[GIMP, MCAT])
def trained(request, tmp_path_factory):
    """A config, its checkpoint, the cohort, and the test's predictions."""
    root = tmp_path_factory.mktemp('trained')
    cohort = write_slide_omic_cohort(
        root / 'cohort', 18, CLASSES, (20, 40), COHORT_DIMS, (1, 3),
        COHORT_GENES, 2, split_shares=(4 / 9, 2 / 9, 3 / 9))
    config = shrink_config(load(request.param), root, root / 'data')
    for split in ('train', 'val', 'test'):
        config[f'{split}_dataloader'].dataset.data_root = str(cohort)
    apis.build_runner(config).train()
    checkpoint = (root / 'run' / 'last_checkpoint').read_text()
    tested = Config.fromfile(config.dump(str(root / 'tested.py'))
                             or root / 'tested.py')
    apis.prepare_test(tested, checkpoint)
    apis.save_predictions(tested, str(root / 'out.pkl'))
    apis.build_runner(tested).test()
    return config, checkpoint, cohort, pickle.loads(
        (root / 'out.pkl').read_bytes())


@pytest.fixture
def infer(trained):
    return build(trained)


def build(trained, **options):
    config, checkpoint, cohort, _ = trained
    return SlideInferencer(config, checkpoint, **{
        'expression': dict(path=cohort / 'expression.tsv', unit='fpkm'),
        **options})


def files_of(trained, count=None):
    """Files of the test's patients, and whose they are.

    Slides of a patient are in order, but not one after the other.
    """
    cohort, tested = trained[2:]
    slides = [(place, cohort / 'features' / f'{slide}.h5', sample['case_id'])
              for sample in tested[:count]
              for place, slide in enumerate(sample['slide_ids'])]
    return map(list, list(zip(*sorted(slides), strict=True))[1:])


def test_scores_are_those_of_a_test(trained, infer):
    files, cases = files_of(trained)
    assert len(set(cases)) < len(files)
    expected = {sample['case_id']: sample for sample in trained[3]}
    assert {sample['modalities'] for sample in trained[3]} == {'slides+genes'}
    results = infer(files, cases=cases)
    attention = dict.fromkeys(cases, 0)
    for file, case, result in zip(files, cases, results, strict=True):
        assert (result['input'], result['case']) == (str(file), case)
        assert result['note'] == result['error'] == ''
        np.testing.assert_allclose(
            result['scores'], expected[case]['pred_score'], rtol=0, atol=1e-6)
        assert result['class'] == CLASSES[result['label']]
        assert result['attention'].shape[1] == len(result['coords'])
        attention[case] += result['attention'].sum(1)
    np.testing.assert_allclose(list(attention.values()), 1, rtol=1e-5)
    scores = np.stack([result['scores'] for result in results])
    assert np.ptp(scores[:, 0]) > 1e-4
    assert len(infer.visualize(files, results)) == len(files)


def test_scores_of_slides_one_by_one(trained):
    config, checkpoint, cohort, tested = trained
    config.test_dataloader.dataset.case_agg = 'separate'
    files, cases = files_of(trained, 2)
    results = build(trained)(files, cases=cases)
    del config.test_dataloader.dataset.case_agg
    alone = build(trained)
    for file, case, result in zip(files, cases, results, strict=True):
        np.testing.assert_array_equal(
            result['scores'], alone(file, cases=[case])[0]['scores'])


def rewrite(trained, path, change):
    """Write the table anew as lists of cells, a line for each gene."""
    lines = (trained[2] / 'expression.tsv').read_text().splitlines()
    rows = change([line.split('\t') for line in lines])
    path.write_text('\n'.join('\t'.join(row) for row in rows) + '\n')
    return dict(path=path, unit='fpkm')


def test_genes_are_brought_in_order_or_refused(trained, infer, tmp_path):
    files, cases = files_of(trained, 1)
    expected = infer(files, cases=cases)[0]['scores']
    path = tmp_path / 'genes.tsv'
    other = rewrite(trained, path, lambda rows: [
        rows[0], ['ENSG00000999999', *rows[1][1:]], *rows[:0:-1]])
    np.testing.assert_array_equal(
        build(trained, expression=other)(files, cases=cases)[0]['scores'],
        expected)
    other = rewrite(trained, path, lambda rows: rows[:-5])
    with pytest.raises(ValueError, match='lacks 5 of 40 genes .*max_missing'):
        build(trained, expression=other)
    result, = build(trained, expression=other, max_missing=.2)(
        files[:1], cases=cases[:1])
    assert result['error'] == ''
    with pytest.raises(ValueError, match='holds tpm .* was fitted to fpkm'):
        build(trained, expression=dict(other, unit='tpm'))
    with pytest.raises(FileNotFoundError, match=r'none\.tsv does not exist'):
        build(trained, expression=tmp_path / 'none.tsv')


def test_patients_without_genes(trained, infer):
    files, cases = files_of(trained, 2)
    names = ['new' if case == cases[0] else case for case in cases]
    for result, case in zip(infer(files, cases=names), names, strict=True):
        assert result['case'] == case
        assert ('case new has no expression; ' in result['error']) == (
            case == 'new')
        assert (result['scores'] is None) == (case == 'new')
    with pytest.raises(SlideFeatureError, match='2 of 2 .*such as case_0'):
        infer(files[:2], cases=['new', 'newer'])
    results = build(trained, missing_genes='keep')(files, cases=names)
    one = results[0]
    if is_gimp(infer):
        assert (one['note'], one['error']) == ('without genes', '')
    else:
        assert 'MCAT looks at patches through genes' in one['error']
    assert {result['note'] for result in results
            if result['case'] != 'new'} == {''}


def test_names_of_patients(trained, infer, tmp_path):
    files, cases = files_of(trained, 1)
    expected = infer(files, cases=cases)
    with pytest.raises(ValueError, match='name of a patient for each of'):
        infer(files, cases=cases[0])
    with pytest.raises(ValueError, match='name of a patient for each of'):
        infer(files, cases=cases[1:])
    with pytest.raises(ValueError, match='one slide, which would count'):
        infer(files[:1] * 2, cases=cases[:1] * 2)
    alike = []
    for number in range(2):
        alike.append(tmp_path / str(number) / 'features.h5')
        alike[-1].parent.mkdir()
        alike[-1].write_bytes(files[0].read_bytes())
    with pytest.raises(ValueError, match="one name, .* 'features': name the"):
        infer(alike)
    assert len(infer(alike, cases=cases[:1] * 2)) == 2
    named = rewrite(trained, tmp_path / 'genes.tsv', lambda rows: [
        [{cases[0]: 'TCGA-05-4249-01A'}.get(cell, cell) for cell in rows[0]],
        *rows[1:]])
    infer = build(trained, expression=named)
    copied = []
    for number, file in enumerate(files):
        copied.append(tmp_path / f'TCGA-05-4249-01Z-00-DX{number}.uid.h5')
        copied[-1].write_bytes(file.read_bytes())
    for result, other in zip(infer(copied), expected, strict=True):
        assert result['case'] == 'TCGA-05-4249'
        np.testing.assert_array_equal(result['scores'], other['scores'])
    with pytest.raises(ValueError, match='is of another patient than case'):
        infer(copied[:1], cases=['TCGA-05-4250'])
    # The file is called as the patient.
    copied[0].rename(tmp_path / f'{read_cases(trained)[0]}.h5')
    result, = infer(tmp_path / f'{read_cases(trained)[0]}.h5')
    assert result['case'] == read_cases(trained)[0]
    assert result['error'] == ''


def read_cases(trained):
    table = read_table(trained[2] / 'cohort.csv', ['case_id'])
    return [cells['case_id'] for _, cells in table.rows('case_id')]


def test_slides_of_a_patient_that_cannot_be_used(trained, infer, tmp_path):
    files, cases = files_of(trained)
    case = next(case for case in cases if cases.count(case) > 1)
    mine = [file for file, other in zip(files, cases, strict=True)
            if other == case]
    torch.save(torch.zeros(0, COHORT_DIMS), tmp_path / 'empty.pt')
    expected = infer(mine, cases=[case] * len(mine))
    empty, *others = infer([tmp_path / 'empty.pt', *mine],
                           cases=[case] * (len(mine) + 1))
    assert (empty['note'], empty['scores']) == ('no patches', None)
    assert empty['attention'].shape[1] == 0
    for result, other in zip(others, expected, strict=True):
        np.testing.assert_array_equal(result['scores'], other['scores'])
        np.testing.assert_array_equal(
            result['attention'], other['attention'])
    (tmp_path / 'broken.h5').write_bytes(mine[0].read_bytes()[:200])
    stranger = next(file for file in files if file not in mine)
    results = infer(
        [tmp_path / 'broken.h5', *mine, stranger],
        cases=[case] * (len(mine) + 1) + [cases[files.index(stranger)]])
    assert all('broken.h5 is truncated' in result['error']
               for result in results[:-1])
    assert results[-1]['error'] == ''


def test_models_of_slides_alone(tmp_path):
    name = 'abmil_1xb8-coslr-70e_tcga-nsclc'
    with pytest.raises(ValueError, match='looks at slides alone, got exp'):
        SlideInferencer(name, expression='genes.tsv')
    # Named patients are joined, others are not.
    for number in range(2):
        torch.save(torch.randn(5, 1024), tmp_path / f'{number}.pt')
    infer = SlideInferencer(name)
    one, other = infer(tmp_path, cases=['p', 'p'])
    np.testing.assert_array_equal(one['scores'], other['scores'])
    alone = infer(tmp_path)
    assert alone[0]['case'] is None
    assert (alone[0]['scores'] != alone[1]['scores']).any()


def test_checkpoints_without_a_scale_of_genes(trained):
    config, _, cohort, _ = trained
    with pytest.raises(ValueError, match=r'expression\.tsv has genes, but '
                                         'neither was a scale'):
        SlideInferencer(config, expression=dict(
            path=cohort / 'expression.tsv', unit='fpkm'))
