"""The layout that labelled images are written in, and its check."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from labelled_downloads import (
    SMALL_DOWNLOADS,
    SOURCES,
    draw_mask,
    draw_scan,
    write_busi_download,
)
from PIL import Image

from mmmedmask.datasets import LabelledImages
from mmmedmask.datasets.conversion import LayoutError
from mmmedmask.datasets.conversion.brain_tumor_mri import BRAIN_TUMOR_MRI
from mmmedmask.datasets.conversion.busi import BUSI
from mmmedmask.datasets.conversion.check_report import ConversionError
from mmmedmask.datasets.conversion.ham10000 import HAM10000
from mmmedmask.datasets.conversion.labelled_conversion import prepare
from mmmedmask.datasets.image_io import write_image
from mmmedmask.datasets.probe_sets import read_probe_sets


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp('downloads')
    for name, write in SMALL_DOWNLOADS.items():
        write(root / name)
    return root


@pytest.fixture
def download(drawn, tmp_path):
    """Returns a copy of a download that may be spoilt."""
    return lambda name: Path(shutil.copytree(drawn / name, tmp_path / name))


def read_tree(root):
    return {str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob('*')) if path.is_file()}


def kinds(findings):
    return sorted({finding.kind for finding in findings})


def write_and_check(source, download, out):
    """Returns the conversion and the report on it."""
    conversion = prepare(source, download, out)
    conversion.write(out)
    return conversion, conversion.check(out)


@pytest.mark.parametrize('name', SOURCES)
def test_good_download(drawn, tmp_path, name):
    source = SOURCES[name]
    before = read_tree(drawn / name)
    out = tmp_path / 'out'
    conversion = prepare(source, drawn / name, out)
    assert not out.exists()
    written = conversion.write_files(out)
    assert written['linked'] + written['copied'] == len(conversion.images)
    report = conversion.check(out)
    assert report.problems == []
    # Drawn ones are a part of the release, and BUSI joins masks.
    assert set(kinds(report.notices)) <= {
        'download', 'shared_group', 'missing_class'}
    assert read_tree(drawn / name) == before
    for split, expected in conversion.splits.items():
        for part in ('train', 'val'):
            dataset = LabelledImages(
                str(out), split=part, split_folder=f'splits/{split}',
                serialize_data=False,
                pipeline=[{'type': 'mmmedmask.LoadTile', 'gray_to_rgb': True}])
            assert len(dataset) == len(expected.parts()[part])
            for sample in dataset:
                assert sample['img'].shape[2] == 3
                assert ('lesion_path' in sample) == (
                    name in ('ham10000', 'busi'))
                if 'lesion_path' in sample:
                    mask = np.asarray(Image.open(sample['lesion_path']))
                    assert mask.shape == sample['img_shape']
                    assert set(np.unique(mask)) <= {0, 255}
    # Every image is byte for byte that of the download.
    for image in conversion.images:
        assert (out / image.path).read_bytes() == image.source.read_bytes()
    # Again, and elsewhere: the same files. Only the report names the folder,
    # and only where something is wrong.
    report.write(out)
    tree = read_tree(out)
    for folder, kept in ((out, len(conversion.images)),
                         (tmp_path / 'elsewhere', 0)):
        again = prepare(source, drawn / name, folder)
        assert again.write_files(folder)['kept'] == kept
        again.check(folder).write(folder)
        assert read_tree(folder) == tree


def test_csv_as_text(drawn, tmp_path):
    prepare(BUSI, drawn / 'busi', tmp_path / 'out').write(tmp_path / 'out')
    text = (tmp_path / 'out/splits/paper/val.csv').read_bytes().decode()
    assert '\r' not in text
    rows = list(csv.DictReader(text.splitlines()))
    assert list(rows[0]) == ['path', 'label', 'group', 'mask']
    for row in rows:
        stem = Path(row['path']).stem
        assert row['path'] == f'images/{row["label"]}/{stem}.png'
        assert row['mask'] == f'masks/{row["label"]}/{stem}.png'
    assert (tmp_path / 'out/classes.txt').read_text() == (
        'benign\nmalignant\nnormal\n')
    # 3/10 of 10, 7 and 4, rounded down.
    assert [row['label'] for row in rows] == 3 * ['benign'] + 2 * [
        'malignant'] + ['normal']


def test_what_is_there_of_an_earlier_conversion_is_named(drawn, tmp_path):
    conversion, report = write_and_check(BUSI, drawn / 'busi', tmp_path)
    assert report.problems == []
    name = max(conversion.splits)
    del conversion.splits[name]
    image = tmp_path / 'images' / 'more.png'
    image.touch()
    conversion.write(tmp_path)
    assert conversion.leftovers(tmp_path) == [
        f'{tmp_path / "splits" / name} is not of this conversion',
        f'1 files in {tmp_path} are not of this conversion: images/more.png']
    problem, = conversion.check(tmp_path).problems
    assert (problem.kind, problem.files) == (
        'other_split', [f'splits/{name}'])


def test_links_and_copies(download, tmp_path, monkeypatch):
    source = download('brain_tumor_mri')
    conversion = prepare(BRAIN_TUMOR_MRI, source, tmp_path / 'out')
    number = len(conversion.images)
    image = conversion.images[0]
    target = tmp_path / 'out' / image.path
    assert conversion.write_files(tmp_path / 'out')['linked'] == number
    assert target.samefile(image.source)
    # Asked for copies, links are replaced, and the download is not touched.
    conversion.copy = True
    written = conversion.write_files(tmp_path / 'out')
    assert written['copied'] == number
    assert not target.samefile(image.source)
    assert target.read_bytes() == image.source.read_bytes()
    # A file of the same name with other content is replaced.
    target.write_bytes(b'other')
    written = conversion.write_files(tmp_path / 'out')
    assert (written['copied'], written['kept']) == (1, number - 1)
    assert target.read_bytes() == image.source.read_bytes()

    def no_links(*_):
        raise OSError('another file system')

    monkeypatch.setattr(os, 'link', no_links)
    conversion.copy = False
    written = conversion.write_files(tmp_path / 'elsewhere')
    assert (written['copied'], written['linked']) == (number, 0)


def test_download_of_symbolic_links(drawn, tmp_path):
    shutil.copytree(drawn / 'brain_tumor_mri', tmp_path / 'linked',
                    copy_function=os.symlink)
    _, report = write_and_check(
        BRAIN_TUMOR_MRI, tmp_path / 'linked', tmp_path / 'out')
    assert not any(path.is_symlink() for path in (tmp_path / 'out').rglob('*'))
    assert report.problems == []


@pytest.mark.parametrize('where', ['.', 'out', '..'])
def test_out_has_to_be_apart(download, where):
    source = download('brain_tumor_mri')
    with pytest.raises(LayoutError, match='must be apart'):
        prepare(BRAIN_TUMOR_MRI, source, source / where)


def test_out_with_another_data_set(drawn, tmp_path):
    prepare(BRAIN_TUMOR_MRI, drawn / 'brain_tumor_mri',
            tmp_path).write(tmp_path)
    with pytest.raises(LayoutError, match=r"another data set.*'glioma'"):
        prepare(BUSI, drawn / 'busi', tmp_path)
    (tmp_path / 'file').write_text('')
    with pytest.raises(LayoutError, match='is not a folder'):
        prepare(BUSI, drawn / 'busi', tmp_path / 'file')


def test_broken_files_are_all_named_and_nothing_written(download, tmp_path):
    source = download('busi')
    folder = source / 'Dataset_BUSI_with_GT/benign'
    (folder / 'benign (1).png').write_bytes(b'\x89PNG')
    (folder / 'benign (2)_mask_1.png').write_bytes(b'')
    Image.new('L', (5, 5)).save(folder / 'benign (4)_mask.png')
    colours = np.asarray(Image.open(folder / 'benign (5).png'))
    Image.fromarray(colours).save(folder / 'benign (5)_mask.png')
    Image.new('L', (96, 72), 100).save(folder / 'benign (6)_mask.png')
    Image.new('I;16', (96, 72)).save(folder / 'benign (7)_mask.png')
    with pytest.raises(ConversionError) as raised:
        prepare(BUSI, source, tmp_path / 'out')
    found = [(finding.kind, Path(finding.files[-1]).name)
             for finding in raised.value.report.problems]
    assert found == [('broken_file', 'benign (1).png'),
                     ('broken_file', 'benign (2)_mask_1.png'),
                     ('size_mismatch', 'benign (4)_mask.png'),
                     ('bad_lesion_mask', 'benign (5)_mask.png'),
                     ('bad_lesion_mask', 'benign (6)_mask.png'),
                     ('bad_lesion_mask', 'benign (7)_mask.png')]
    assert 'image (72, 96), mask (5, 5)' in raised.value.report.to_text()
    assert not (tmp_path / 'out').exists()


def test_check_finds_what_was_spoilt_after_writing(download, tmp_path):
    source, out = download('busi'), tmp_path / 'out'
    conversion = prepare(BUSI, source, out, copy=True)
    conversion.write(out)
    spoilt = ['images/benign/benign (3).png', 'masks/normal/normal (1).png',
              'splits/grouped/val.csv', 'images/normal/normal (2).png']
    for name in spoilt[:2]:
        (out / name).write_bytes(b'')
    text = (out / spoilt[2]).read_text()
    (out / spoilt[2]).write_text(text.replace('benign (', 'benign (1'))
    (out / spoilt[3]).unlink()
    report = conversion.check(out)
    assert kinds(report.problems) == ['written_mismatch']
    assert sorted(finding.files[0] for finding in report.problems) == sorted(
        [str(out / name) for name in (*spoilt[:2], spoilt[3])] + [spoilt[2]])


def test_check_finds_planted_copies(download, tmp_path):
    """Identical and mirrored, in both parts and in several classes."""
    source = download('brain_tumor_mri')
    training, testing = source / 'Training', source / 'Testing'

    def mirror(original, target):
        Image.fromarray(np.asarray(Image.open(original))[:, ::-1]).save(
            target, quality=95)

    for plant, original, target in (
            (shutil.copy, training / 'glioma/Tr-gl_0000.jpg',
             testing / 'glioma/copy.jpg'),
            (mirror, training / 'notumor/Tr-no_0001.jpg',
             testing / 'notumor/mirrored.jpg'),
            (shutil.copy, training / 'glioma/Tr-gl_0002.jpg',
             training / 'pituitary/x.jpg'),
            (mirror, testing / 'meningioma/Te-me_0000.jpg',
             testing / 'glioma/y.jpg'),
            (shutil.copy, testing / 'pituitary/Te-pi_0001.jpg',
             testing / 'pituitary/z.jpg')):
        plant(original, target)
    out = tmp_path / 'out'
    _, report = write_and_check(BRAIN_TUMOR_MRI, source, out)
    found = {finding.kind: (finding.files, finding.detail)
             for finding in report.problems}
    assert len(report.problems) == len(found) == 4
    files, detail = found['identical_across_splits']
    assert files == ['images/Testing/glioma/copy.jpg',
                     'images/Training/glioma/Tr-gl_0000.jpg']
    assert detail == 'same bytes; train and val of official'
    files, detail = found['near_identical_across_splits']
    assert files == ['images/Testing/notumor/mirrored.jpg',
                     'images/Training/notumor/Tr-no_0001.jpg']
    assert detail.startswith('correlation 0.9')
    assert found['identical_across_classes'][0] == [
        'images/Training/glioma/Tr-gl_0002.jpg (glioma)',
        'images/Training/pituitary/x.jpg (pituitary)']
    assert found['near_identical_across_classes'][0] == [
        'images/Testing/glioma/y.jpg (glioma)',
        'images/Testing/meningioma/Te-me_0000.jpg (meningioma)']
    assert [(finding.kind, finding.files) for finding in report.notices
            if finding.kind != 'download'] == [
        ('identical_within_split', ['images/Testing/pituitary/Te-pi_0001.jpg',
                                    'images/Testing/pituitary/z.jpg'])]
    checked = '\n'.join(report.checked)
    assert ('identical: 3 groups of 6 images, 1 of them with several '
            'classes') in checked
    assert ('identical, official: 1 groups in both train and val, with 1 of '
            '12 val images') in checked
    assert ('copies of any kind, official: 2 groups in both train and val, '
            'with 2 of 12 val images') in checked
    assert 'copies of any kind, clean: 0 groups' in checked
    assert 'correlation >= 0.87' in checked
    assert '3 channels uint8: 14 images' in checked


def test_lesions_that_share_a_picture_are_one_group(download, tmp_path):
    """A chain of copies joins them, and no copy is on both sides."""
    source = download('ham10000')
    first, second = (source / f'HAM10000_images_part_{part}'
                     for part in (1, 2))
    # Images 24306 and 24307 are of one lesion, 24308 of the next, and so on.
    shutil.copy(first / 'ISIC_0024306.jpg', first / 'ISIC_0024308.jpg')
    picture = np.asarray(Image.open(second / 'ISIC_0024309.jpg'))
    Image.fromarray(picture[:, ::-1]).save(
        first / 'ISIC_0024310.jpg', quality=95)
    conversion, report = write_and_check(HAM10000, source, tmp_path / 'out')
    group = {image.path[-5:-4]: image.group for image in conversion.images[:5]}
    assert set(group.values()) == {group['6']}
    assert group['6'] in (source / 'HAM10000_metadata.csv').read_text()
    assert 'copies of any kind, lesion: 0 groups' in '\n'.join(report.checked)
    assert any('lesions that share a picture are joined' in finding.detail
               for finding in report.notices)


def test_near_threshold_decides(download, tmp_path):
    source = download('brain_tumor_mri')
    image = np.asarray(Image.open(source / 'Training/glioma/Tr-gl_0001.jpg'))
    other = np.asarray(Image.open(source / 'Training/glioma/Tr-gl_0003.jpg'))
    mixed = (0.75 * image + 0.25 * other).astype(np.uint8)
    Image.fromarray(mixed).save(source / 'Testing/glioma/mixed.png')
    groups = [prepare(BRAIN_TUMOR_MRI, source, tmp_path / 'out',
                      threshold=threshold).copies.groups
              for threshold in (0.5, 0.999)]
    assert [len(group) for group in groups] == [1, 0]


def test_lesions_in_the_wrong_place(download, tmp_path):
    source, out = download('busi'), tmp_path / 'out'
    folder = source / 'Dataset_BUSI_with_GT'
    empty = Image.new('L', (96, 72))
    empty.save(folder / 'benign/benign (1)_mask.png')
    Image.new('L', (96, 72), 255).save(folder / 'normal/normal (2)_mask.png')
    _, report = write_and_check(BUSI, source, out)
    assert [(finding.kind, finding.files) for finding in report.problems] == [
        ('empty_mask', ['masks/benign/benign (1).png']),
        ('unexpected_lesion', ['masks/normal/normal (2).png'])]
    # The 2nd benign and malignant have two masks each.
    assert '21 lesion masks, 2 of them joined from several' in (report.checked)


def test_files_may_differ_by_case_alone(download, tmp_path):
    source, out = download('busi'), tmp_path / 'out'
    folder = source / 'Dataset_BUSI_with_GT/benign'
    write_image(folder / 'BENIGN (1).png', draw_scan(99))
    write_image(folder / 'BENIGN (1)_mask.png', draw_mask(99))
    conversion, report = write_and_check(BUSI, source, out)
    assert report.problems == []
    parts = [LabelledImages(str(out), split=part, split_folder='splits/paper')
             for part in ('train', 'val')]
    assert sum(map(len, parts)) == len(conversion.images)
    assert sum(len(part.paths) for part in read_probe_sets(out)) == len(
        conversion.images)


def test_parts_and_classes_that_are_empty(tmp_path):
    write_busi_download(
        tmp_path / 'busi', {'benign': 4, 'malignant': 3, 'normal': 1})
    _, report = write_and_check(BUSI, tmp_path / 'busi', tmp_path / 'out')
    assert report.problems == []
    missing = {finding.files[0]: finding.detail for finding in report.notices
               if finding.kind == 'missing_class'}
    assert missing == {
        f'splits/{name}/val.csv': 'malignant, normal'
        for name in ('paper', 'grouped')}
    (tmp_path / 'busi/Dataset_BUSI_with_GT/benign').rename(tmp_path / 'benign')
    write_busi_download(tmp_path / 'busi', {'benign': 3})
    with pytest.raises(LayoutError, match='no image for val of splits/paper: '
                       'it has 7, in 7 groups, the largest of 1'):
        prepare(BUSI, tmp_path / 'busi', tmp_path / 'two')
