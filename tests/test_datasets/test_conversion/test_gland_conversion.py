"""Finding, converting and checking GlaS and CRAG, on drawn releases."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from mmmedmask.datasets.coco_instances import InstanceOptions
from mmmedmask.datasets.conversion import LayoutError
from mmmedmask.datasets.conversion.check_report import ConversionError
from mmmedmask.datasets.conversion.gland_datasets import (
    SOURCES,
    GlandConversion,
    find_crag,
    find_glas,
    prepare,
)
from mmmedmask.phantoms.glands import draw_gland_image

RELEASE = 'Warwick QU Dataset (Released 2016_07_08)'


@pytest.fixture(scope='module')
def tissue():
    return [draw_gland_image(96, seed) for seed in range(4)]


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.astype(np.uint8)).save(path)


@pytest.fixture
def glas(tmp_path, tissue):
    """train_2, train_10, testA_1 and testB_1, as in the release: BMP."""
    folder = tmp_path / 'glas' / RELEASE
    names = ('train_2', 'train_10', 'testA_1', 'testB_1')
    for name, (image, labels) in zip(names, tissue, strict=True):
        save(folder / f'{name}.bmp', image)
        save(folder / f'{name}_anno.bmp', labels)
    (folder / 'Grade.csv').write_text(
        'name,patient ID, grade (GlaS)\ntrain_2,1, benign\n'
        'train_10,2, benign\ntestA_1,3, benign\ntestB_1,2, malignant\n')
    return tmp_path / 'glas'


@pytest.fixture
def crag(tmp_path, tissue):
    root = tmp_path / 'crag'
    names = ('train/{}/train_9.png', 'train/{}/train_10.png',
             'valid/{}/test_1.png')
    for name, (image, labels) in zip(names, tissue[:3], strict=True):
        save(root / 'CRAG' / name.format('Images'), image)
        save(root / 'CRAG' / name.format('Annotation'), labels)
    return root


def run_check(glas):
    return prepare('glas', glas).check(glas / 'annotations')


def names_of(splits):
    return {split: [pair.file_name for pair in pairs]
            for split, pairs in splits.items()}


def test_glas_is_found_in_the_order_of_its_numbers(glas):
    expected = {'train': ['train_2.bmp', 'train_10.bmp'],
                'test': ['testA_1.bmp', 'testB_1.bmp']}
    assert names_of(find_glas(glas / RELEASE)) == expected
    assert names_of(find_glas(glas)) == {
        split: [f'{RELEASE}/{name}' for name in names]
        for split, names in expected.items()}
    assert [pair.part for pair in find_glas(glas)['test']] == [
        'testA', 'testB']


def test_files_that_are_called_like_folders(crag):
    (crag / 'a/train').mkdir(parents=True)
    (crag / 'a/train/Images').write_text('')
    assert find_crag(crag)


@pytest.mark.parametrize('test_folder', ['valid', 'test'])
def test_crag_is_found(crag, test_folder):
    (crag / 'CRAG' / 'valid').rename(crag / 'CRAG' / test_folder)
    assert names_of(find_crag(crag)) == {
        'train': ['CRAG/train/Images/train_9.png',
                  'CRAG/train/Images/train_10.png'],
        'test': [f'CRAG/{test_folder}/Images/test_1.png']}


def remove(pattern):
    return lambda root: [path.unlink() for path in root.glob(pattern)]


@pytest.mark.parametrize(('name', 'spoil', 'message'), [
    ('glas', remove('*/train_2_anno.bmp'), "no mask, the first is 'train_2'"),
    ('glas', remove('*/testA_1.bmp'), "no image, the first is 'testA_1'"),
    ('glas', remove('*/test*'), 'no images for: test'),
    ('glas', lambda root: shutil.copy(
        root / RELEASE / 'train_2.bmp', root / RELEASE / 'train_2.png'),
     r'train_2\.bmp and .*train_2\.png are called the same'),
    ('glas', lambda root: shutil.copytree(root / RELEASE, root / 'copy'),
     r'exactly one folder.*copy'),
    ('glas', shutil.rmtree, 'does not exist'),
    ('glas', lambda root: shutil.rmtree(root / RELEASE), 'no such folder'),
    ('crag', lambda root: shutil.rmtree(root / 'CRAG/valid'), 'neither'),
    ('crag', lambda root: shutil.copytree(
        root / 'CRAG/valid', root / 'CRAG/test'),
     r"found \['valid', 'test'\]"),
    ('crag', remove('CRAG/valid/Annotation/*'), 'have no mask.*test_1'),
    ('crag', remove('CRAG/valid/Images/*'), 'have no image.*test_1'),
    ('crag', lambda root: shutil.rmtree(root / 'CRAG/valid/Annotation'),
     'Annotation does not exist')])
def test_what_is_not_as_released(request, name, spoil, message):
    root = request.getfixturevalue(name)
    spoil(root)
    with pytest.raises(LayoutError, match=message):
        prepare(name, root)


def test_official_numbers(glas):
    conversion = prepare('glas', glas)
    assert conversion.notices == [
        'This is not the complete GlaS: train 2 of 85, testA 1 of 60, '
        'testB 1 of 20 images. Splits and results are not those of the '
        'release.']
    train, test = conversion.splits.values()
    whole = {'train': train[:1] * 85, 'test': test[:1] * 60 + test[1:] * 20}
    assert GlandConversion(SOURCES['glas'], whole).notices == []
    assert sum(SOURCES['crag'].official.values()) == 213


@pytest.mark.parametrize('name', ['glas', 'crag'])
def test_converted_and_checked(name, request, tissue):
    root = request.getfixturevalue(name)
    conversion = prepare(name, root)
    lines = conversion.write(root / 'annotations')
    number = tissue[0][1].max() + tissue[1][1].max()
    assert conversion.totals['train'].instances == number
    assert lines[0] == (f'{root / "annotations/train.json"}: 2 images, '
                        f'{number} instances')
    content = json.loads((root / 'annotations/test.json').read_text())
    assert content['info']['description'] == f'{SOURCES[name].name} test'
    for image in content['images']:
        assert (root / image['file_name']).is_file()
    report = conversion.check(root / 'annotations')
    assert report.problems == []
    assert any('and their annotations' in line for line in report.checked)


def test_all_unusable_files_are_named_and_nothing_is_written(glas):
    folder = glas / RELEASE
    (folder / 'train_2.bmp').write_bytes(b'BM')
    save(folder / 'train_10_anno.bmp', np.ones((96, 80)))
    save(folder / 'testA_1_anno.bmp', np.zeros((96, 96)))
    colours = np.zeros((96, 96, 3))
    colours[..., 0] = 255
    save(folder / 'testB_1_anno.bmp', colours)
    with pytest.raises(ConversionError) as caught:
        prepare('glas', glas).write(glas / 'annotations')
    kinds = [finding.kind for finding in caught.value.report.problems]
    assert kinds == ['broken_file', 'size_mismatch', 'bad_mask']
    assert 'train_2.bmp' in str(caught.value)
    assert 'image (96, 96), mask (96, 80)' in str(caught.value)
    assert not (glas / 'annotations').exists()
    assert [(finding.kind, finding.files[-1].rsplit('/')[-1])
            for finding in run_check(glas).problems] == [
                ('broken_file', 'train_2.bmp'),
                ('size_mismatch', 'train_10_anno.bmp'),
                ('empty_mask', 'testA_1_anno.bmp'),
                ('bad_mask', 'testB_1_anno.bmp')]


def test_check_finds_a_test_image_in_the_training_set(glas):
    folder = glas / RELEASE
    shutil.copy(folder / 'train_2.bmp', folder / 'testA_1.bmp')
    image = np.asarray(Image.open(folder / 'train_10.bmp'))
    save(folder / 'testB_1.bmp', image[:, ::-1])
    report = run_check(glas)
    assert [finding.kind for finding in report.problems] == [
        'identical_across_splits', 'near_identical_across_splits']
    assert report.problems[1].files == [
        str(folder / 'train_10.bmp'), str(folder / 'testB_1.bmp')]


def test_check_notices(glas):
    folder = glas / RELEASE
    scattered = np.zeros((96, 96))
    scattered[:20, :20] = scattered[50:70, 50:70] = 4
    scattered[90, 90] = 5
    save(folder / 'train_2_anno.bmp', scattered)
    save(folder / 'train_10_anno.bmp', 255 * (scattered == 4))
    report = run_check(glas)
    found = {(finding.kind, finding.files[0].rsplit('/')[-1]): finding.detail
             for finding in report.notices}
    assert found['several_parts', 'train_2_anno.bmp'] == 'instances [4]'
    assert found['tiny_instance', 'train_2_anno.bmp'] == '[1] pixels'
    assert ('binary_mask', 'train_10_anno.bmp') in found
    assert report.problems == []


def test_masks_of_one_number_and_void(glas):
    """What a conversion warns of, the check says, too."""
    labels = np.zeros((96, 96))
    labels[:20, :20] = labels[50:70, 50:70] = 128
    for name in ('train_2', 'train_10'):
        save(glas / RELEASE / f'{name}_anno.bmp', labels)
    labels[30:40, 70:90] = 255
    save(glas / RELEASE / 'testA_1_anno.bmp', labels)
    remarks = '\n'.join(prepare('glas', glas).write(glas / 'annotations'))
    assert remarks.count('WARNING: no mask holds a number but 128') == 1
    assert remarks.count('NOTICE: 1 masks hold the largest number') == 1
    found = {finding.kind: finding for finding in run_check(glas).notices}
    assert found['one_number'].files == ['train']
    assert '--mask-kind binary' in found['one_number'].detail
    assert found['void'].files[0].endswith('testA_1_anno.bmp')
    assert found['void'].detail == '255'


def test_check_counts_shared_patients(glas):
    assert [(finding.files, finding.detail)
            for finding in run_check(glas).notices
            if finding.kind == 'shared_patient'] == [
        (['patient 2'], '1 of 2 test images')]
    # Patients who are not known are not one.
    grades = glas / RELEASE / 'Grade.csv'
    grades.write_text(grades.read_text().replace(',2,', ',NA,'))
    assert not any(finding.kind == 'shared_patient'
                   for finding in run_check(glas).notices)
    grades.unlink()
    assert not any(finding.kind == 'shared_patient'
                   for finding in run_check(glas).notices)
    (glas / RELEASE / 'Grade.csv').write_text('name,grade\n')
    with pytest.raises(ValueError, match="lacks the columns .'patient ID'"):
        run_check(glas)


@pytest.mark.parametrize(('change', 'detail'), [
    (lambda content: content['annotations'].pop(), 'masks'),
    (lambda content: content['annotations'][0].update(
        segmentation=content['annotations'][1]['segmentation']), 'masks'),
    (lambda content: content['annotations'][0].update(area=1), 'area'),
    (lambda content: content['annotations'][0].update(bbox=[0, 0, 1, 1]),
     'box'),
    (lambda content: content['images'][0].update(height=5), 'size'),
    (lambda content: content['images'][0].update(file_name='x'),
     'not in the annotation file'),
])
def test_check_compares_annotations_with_masks(glas, change, detail):
    conversion, out_dir = prepare('glas', glas), glas / 'annotations'
    conversion.write(out_dir)
    content = json.loads((out_dir / 'train.json').read_text())
    change(content)
    (out_dir / 'train.json').write_text(json.dumps(content))
    report = conversion.check(out_dir)
    assert [finding.kind for finding in report.problems] == [
        'annotation_mismatch']
    assert detail in report.problems[0].detail


def test_check_with_other_options_than_the_conversion(glas):
    out_dir = glas / 'annotations'
    large = prepare('glas', glas, InstanceOptions(min_area=300))
    large.write(out_dir)
    assert large.check(out_dir).problems == []
    assert prepare('glas', glas).check(out_dir).problems


def test_real_glas(data_root, tmp_path):
    root = data_root / 'glas'
    if not root.is_dir():
        pytest.skip(f'no {root}')
    conversion = prepare('glas', root)
    conversion.write(tmp_path)
    train = conversion.totals['train']
    assert len(train.binary_masks) == train.images
    assert train.instances > 5 * train.images
    assert conversion.check(tmp_path).problems == []
