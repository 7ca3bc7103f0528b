"""Brain Tumor MRI, HAM10000, BUSI and Messidor-2: layouts and splits."""

import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from labelled_downloads import (
    draw_mask,
    write_brain_download,
    write_busi_download,
    write_ham_download,
    write_messidor_download,
)
from PIL import Image

from mmmedmask.datasets.conversion import brain_tumor_mri as brain
from mmmedmask.datasets.conversion import (
    busi,
    ham10000,
    messidor2,
)
from mmmedmask.datasets.conversion.check_report import CheckReport
from mmmedmask.datasets.conversion.copies import Copies
from mmmedmask.datasets.conversion.label_splits import (
    LabelledImage,
    val_targets,
)
from mmmedmask.datasets.conversion.labelled_conversion import (
    join_groups,
    join_masks,
)
from mmmedmask.datasets.lesion_masks import mask_to_binary


def test_brain_layout(tmp_path):
    root = tmp_path / 'archive' / 'brain'
    write_brain_download(root, 2)
    (root / 'Testing/glioma/notes.txt').write_text('')
    (root / 'Testing/glioma/._Te-gl_0000.jpg').write_text('')
    found = brain.find_images(tmp_path)
    assert len(found.images) == 12
    first = found.images[0]
    assert (first.path, first.label) == (
        'images/Testing/glioma/Te-gl_0000.jpg', 'glioma')
    assert first.source == root / 'Testing/glioma/Te-gl_0000.jpg'
    assert 'Training/notumor 2 of 1595' in found.notices[0]
    assert found.notices[1] == "Left out: {'.txt': 1}."
    for part, total in (('Training', 5712), ('Testing', 1311)):
        assert sum(number for name, number in brain.OFFICIAL_COUNTS.items()
                   if name.startswith(part)) == total


def brain_images(**members):
    """Images by short name: Training t1..., Testing v1..., and class."""
    parts = {'t': 'Training', 'v': 'Testing'}
    paths = [f'images/{parts[name[0]]}/{label}/{name}'
             for name, label in members.items()]
    return [LabelledImage(Path(Path(path).name), path,
                          Path(path).parent.name, path) for path in paths]


def test_brain_splits():
    images = brain_images(
        t1='glioma', v1='glioma',                # copies across the split
        t2='notumor', t3='notumor',              # copies in Training
        v2='notumor', v3='notumor',              # copies in Testing
        t4='glioma', t5='pituitary',             # identical, two classes
        v4='glioma', v5='meningioma',            # near, two classes
        t6='glioma', t7='meningioma',            # near, two classes
        t8='pituitary', v8='pituitary',          # no copies
        t9='glioma', v9='pituitary')             # identical, across both
    path = {image.source.name: image.path for image in images}
    pairs = ['t1 v1', 't2 t3', 'v2 v3', 't4 t5', 'v4 v5', 't6 t7', 't9 v9']
    groups = [tuple(sorted(path[name] for name in pair.split()))
              for pair in pairs]
    copies = Copies(groups=sorted(groups), identical=[
        [SimpleNamespace(name=name) for name in groups[place]]
        for place in (3, 6)])
    splits = brain.make_splits(join_groups(images, copies)[0], copies, 0)

    def names(part):
        return ' '.join(sorted(one.source.name for one in part))

    assert names(splits['official'].train) == 't1 t2 t3 t4 t5 t6 t7 t8 t9'
    assert names(splits['official'].val) == 'v1 v2 v3 v4 v5 v8 v9'
    # Identical ones with several classes are nowhere; others may train.
    assert names(splits['clean'].train) == 't1 t2 t3 t6 t7 t8'
    assert names(splits['clean'].val) == 'v2 v8'
    assert names(splits['clean-train'].train) == 't2 t8'
    assert names(splits['clean-train'].val) == 'v1 v2 v8'


def test_real_brain_identical_files(data_root):
    """As the data's description counts them; reads no image."""
    folder = data_root / 'brain_tumor_mri'
    if not folder.is_dir():
        pytest.skip('no Brain Tumor MRI')
    found = brain.find_images(folder)
    assert len(found.images) == 7019
    assert found.notices == [
        'This is not the complete Brain Tumor MRI: Training/notumor 1591 of '
        '1595 images. Splits and results are not those of the release.']
    groups = {}
    for image in found.images:
        groups.setdefault(image.source.read_bytes(), []).append(image)
    several = [group for group in groups.values() if len(group) > 1]
    assert len(several) == 300
    parts = [{image.path.split('/')[1] for image in group}
             for group in several]
    assert sum(len(part) == 2 for part in parts) == 189
    # So no image is dropped from the training part of the clean split.
    assert all(len({image.label for image in group}) == 1 for group in several)


def test_ham_layout(tmp_path):
    root = tmp_path / 'ham'
    write_ham_download(root, {'nv': 5, 'df': 2})
    # Archives of the Mac, and both parts once more, as some copies have it.
    (root / 'HAM10000_images_part_1/._ISIC_0024306.jpg').write_text('')
    shutil.copytree(
        root / 'HAM10000_images_part_1', root / 'ham10000_images_part_1')
    (root / 'HAM10000_images_part_2/ISIC_0034524.jpg').write_bytes(b'x')
    metadata = root / 'HAM10000_metadata.csv'
    metadata.write_text(
        metadata.read_text() + 'HAM_1,ISIC_0099999,mel,histo,,,\n')
    found = ham10000.find_images(tmp_path)
    assert [(one.path, one.label, one.group) for one in found.images[:3]] == [
        ('images/ISIC_0024306.jpg', 'nv', 'HAM_nv_0000'),
        ('images/ISIC_0024307.jpg', 'nv', 'HAM_nv_0000'),
        ('images/ISIC_0024308.jpg', 'nv', 'HAM_nv_0001')]
    first = found.images[0]
    assert first.mask_path == 'masks/ISIC_0024306.png'
    assert [path.name for path in first.masks] == [
        'ISIC_0024306_segmentation.png']
    text = ' '.join(found.notices)
    assert 'akiec 0 of 327' in text
    assert '1 images listed in the metadata are not there' in text
    assert 'ISIC_0099999' in text
    assert '1 images are left out, for the metadata do not list them' in text
    assert '4 images are there twice with the same bytes' in text
    assert len(found.images) == 7
    assert sum(ham10000.OFFICIAL_COUNTS.values()) == 10_015


def test_ham_as_tab_and_without_masks(tmp_path):
    write_ham_download(tmp_path, {'nv': 3}, masks=False)
    metadata = tmp_path / 'HAM10000_metadata.csv'
    text = metadata.read_text().replace(',', '\t')
    metadata.rename(tmp_path / 'HAM10000_metadata.tab').write_text(text)
    found = ham10000.find_images(tmp_path)
    assert [one.label for one in found.images] == 3 * ['nv']
    assert [one.masks for one in found.images] == 3 * [()]
    assert 'There are no lesion masks.' in found.notices


def test_real_ham(data_root):
    folder = data_root / 'ham10000'
    if not folder.is_dir():
        pytest.skip('no HAM10000')
    found = ham10000.find_images(folder)
    assert len(found.images) == 1720
    assert len({image.group for image in found.images}) < 1720
    splits = ham10000.HAM10000.make_splits(found.images, Copies(), 0)
    targets = val_targets(found.images)
    # Most lesions have one image, so groups permit the same numbers.
    for split in splits.values():
        assert Counter(one.label for one in split.val) == targets
    train, val = ({one.group for one in part}
                  for part in splits['paper'].parts().values())
    assert len(train & val) > 50
    report = CheckReport()
    for image in found.images[:5]:
        assert join_masks(image, (150, 200), report).marked
    assert report.problems == []


def test_busi_layout(tmp_path):
    write_busi_download(tmp_path, {'benign': 3, 'malignant': 2, 'normal': 3})
    found = busi.find_images(tmp_path)
    assert [one.path for one in found.images[:2]] == [
        'images/benign/benign (1).png', 'images/benign/benign (2).png']
    assert [one.name for one in found.images[1].masks] == [
        'benign (2)_mask.png', 'benign (2)_mask_1.png']
    assert 'benign 3 of 437, malignant 2 of 210, normal 3 of 133' in (
        found.notices[0])
    assert found.notices[1] == (
        '2 images have several masks, which are joined.')
    assert sum(busi.OFFICIAL_COUNTS.values()) == 780


def test_masks_are_joined_by_or(tmp_path):
    masks = [draw_mask(seed) for seed in (1, 2)]
    paths = tuple(tmp_path / f'{index}.png' for index in range(2))
    Image.fromarray(masks[0]).save(paths[0])
    rgba = np.dstack([masks[1]] * 3 + [255 - masks[1]])
    Image.fromarray(rgba).save(paths[1])
    image = LabelledImage(tmp_path / 'x', 'x', 'benign', 'g', paths, 'm')
    joined = join_masks(image, (72, 96), CheckReport())
    (tmp_path / 'joined.png').write_bytes(joined.encoded)
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / 'joined.png')), np.maximum(*masks))
    assert (masks[0] & masks[1]).any() or masks[1].any()
    empty = LabelledImage(tmp_path / 'x', 'x', 'normal', 'g', (), 'm')
    assert not join_masks(empty, (72, 96), CheckReport()).marked


def test_mask_values():
    mask = draw_mask(0)[..., None]
    for variant in (mask, mask // 255, np.repeat(mask, 3, 2),
                    np.dstack([mask, 0 * mask]), np.clip(mask, 9, 246)):
        np.testing.assert_array_equal(
            mask_to_binary(variant), mask[..., 0] == 255)
    assert not mask_to_binary(np.zeros((4, 4, 1), np.uint8)).any()
    gray = mask.copy()
    gray[:6] = 120
    with pytest.raises(ValueError, match=r'8\.3% of the mask'):
        mask_to_binary(gray)
    numbers = np.zeros((4, 4, 1), np.uint8)
    numbers[1, 1] = 2
    with pytest.raises(ValueError, match='largest value of the mask is 2'):
        mask_to_binary(numbers)


def test_real_busi(data_root):
    folder = data_root / 'busi'
    if not folder.is_dir():
        pytest.skip('no BUSI')
    found = busi.find_images(folder)
    assert Counter(one.label for one in found.images) == {
        'benign': 40, 'malignant': 26, 'normal': 14}
    report = CheckReport()
    for image in found.images:
        if len(image.masks) == 1 and image.label == 'benign':
            continue
        with Image.open(image.source) as file:
            size = file.size[::-1]
        joined = join_masks(image, size, report)
        # RGB and RGBA masks among them.
        assert joined.marked == (image.label != 'normal')
    assert report.problems == []
    assert sum(len(image.masks) > 1 for image in found.images) == 3


def test_messidor_layout(tmp_path):
    write_messidor_download(tmp_path, [6, 3, 2, 1, 1], ungraded=2)
    found = messidor2.find_images(tmp_path)
    assert Counter(one.label for one in found.images) == {
        'no_dr': 6, 'mild': 3, 'moderate': 2, 'severe': 1, 'proliferative': 1}
    assert {one.path.split('.')[1] for one in found.images} == {'png', 'JPG'}
    table = {}
    for line in (tmp_path / 'messidor_data.csv').read_text().splitlines()[1:]:
        name, grade, *_ = line.split(',')
        table[Path(name).stem] = grade
    assert len(found.images) == 13
    for image in found.images:
        grade = messidor2.GRADES.index(image.label)
        assert table[image.source.stem] == str(grade)
    # 15 images in 7 pairs; the last has none.
    assert set(Counter(one.group for one in found.images).values()) == {1, 2}
    assert list(messidor2.make_splits(found.images, Copies(), 0)) == [
        'paper', 'patient']
    text = ' '.join(found.notices)
    assert 'no_dr 6 of 1017' in text
    assert '2 images have no grade and are left out: ' in text
    # One of the five has no grade.
    assert '4 images are called otherwise in messidor_data.csv' in text
    assert 'by their stem: IM0000' in text
    assert '1 images are in no pair of messidor-2.csv' in text
    assert sum(messidor2.OFFICIAL_COUNTS.values()) == 1744


def test_messidor_without_pairs(tmp_path):
    write_messidor_download(tmp_path, [4, 3, 2, 1, 1], pairs=False)
    found = messidor2.find_images(tmp_path)
    assert 'there is no split by patient' in found.notices[-1]
    assert len({one.group for one in found.images}) == 11
    assert list(messidor2.make_splits(found.images, Copies(), 0)) == ['paper']


def test_messidor_variants_of_the_tables(tmp_path):
    write_messidor_download(tmp_path, [4, 3, 2, 1, 1])
    grades = tmp_path / 'messidor_data.csv'
    before = messidor2.find_images(tmp_path).images
    # Grades as numbers with a point, as pandas writes them beside gaps.
    lines = grades.read_text().splitlines()
    grades.write_text('\n'.join(
        [lines[0]] + [line.replace(',', ',', 1).replace(
            f',{line.split(",")[1]},', f',{line.split(",")[1]}.0,', 1)
            if line.split(',')[1] else line for line in lines[1:]]))
    assert ',0.0,' in grades.read_text()
    assert messidor2.find_images(tmp_path).images == before
    # A list of pairs without its header, and an eye that is missing.
    pairs = tmp_path / 'messidor-2.csv'
    lefts = [line.split(';')[0]
             for line in pairs.read_text().splitlines()[1:3]]
    for gap in ('', 'NA'):
        pairs.write_text(''.join(f'{left};{gap}\n' for left in lefts))
        images = messidor2.find_images(tmp_path).images
        assert set(Counter(one.group for one in images).values()) == {1}
        assert 'patient' in messidor2.make_splits(images, Copies(), 0)


def remove(pattern):
    return lambda root: [path.unlink() for path in root.rglob(pattern)]


def replace_in(name, *both):
    def spoil(root):
        text = (root / name).read_text()
        (root / name).write_text(text.replace(*both, 1))
    return spoil


def write_to(name, text):
    return lambda root: (root / name).write_text(text)


def write_grades(*rows):
    return write_to('messidor_data.csv', '\n'.join(
        ['image_id,adjudicated_dr_grade', *rows]) + '\n')


HAM_TABLE = 'HAM10000_metadata.csv'
WRONG = {
    (brain, write_brain_download, 2): [
        (lambda root: shutil.rmtree(root / 'Testing'), 'Training and Testing'),
        (lambda root: shutil.rmtree(root / 'Testing/glioma'),
         r"missing: \['glioma'\]"),
        (lambda root: (root / 'Training/tumor').mkdir(),
         r"unknown: \['tumor'\]"),
        (remove('Testing/glioma/*'), 'no image of Testing/glioma: expected '
         'such as Training/glioma/Tr-gl_0010.jpg.*no files')],
    (ham10000, write_ham_download, (('nv', 4), )): [
        (remove(HAM_TABLE), f'one file {HAM_TABLE} .*none'),
        (write_to('HAM10000_metadata', ''), 'one file HAM10000_metadata'),
        (replace_in(HAM_TABLE, 'dx', 'diagnosis'), "'dx'"),
        (replace_in(HAM_TABLE, ',nv,', ',NV,'), "line 2: .*'NV'"),
        (replace_in(HAM_TABLE, 'ISIC_0024306', 'ISIC_0024307'),
         'line 3: .*listed twice'),
        (replace_in(HAM_TABLE, 'HAM_nv_0000', ''), 'no lesion'),
        (replace_in(HAM_TABLE, 'HAM_nv_0000', 'NA'), 'no lesion'),
        (remove('ISIC_0024307_segmentation.png'),
         r'1 of 4 images have no lesion mask .*the first is ISIC_0024307'),
        (write_to('ISIC_0024306.jpg', ''), 'differ'),
        (remove('ISIC_*.jpg'), 'holds no image')],
    (busi, write_busi_download,
     (('benign', 3), ('malignant', 2), ('normal', 1))): [
        (remove('benign (1)_mask.png'),
         r"1 names in .*benign have no mask, the first is 'benign \(1\)'"),
        (remove('benign (2).png'),
         r"have no image, the first is 'benign \(2\)'"),
        (lambda root: [path.rename(path.with_suffix('.jpg')) for path in
                       root.rglob('normal*.png')],
         r"no image of normal: expected PNG such as 'benign/benign \(1\)\.png"
         r"'.*'\.jpg': 2"),
        (lambda root: shutil.rmtree(root / 'Dataset_BUSI_with_GT/normal'),
         'benign, malignant'),
        (lambda root: (root / 'Dataset_BUSI_with_GT/other').mkdir(),
         r"unknown: \['other'\]")],
    (messidor2, write_messidor_download, (4, 3, 2, 1, 1)): [
        (remove('messidor_data.csv'),
         'one file messidor_data.csv, found none'),
        (lambda root: shutil.copytree(root / 'part_1', root / 'part_3'),
         'are called the same'),
        (replace_in('messidor_data.csv', 'adjudicated_dr_grade', 'diagnosis'),
         "lacks the columns .* has .*'diagnosis'"),
        (write_grades('IM000000.jpg,5'),
         "line 2: .* 0 to 4 or empty, got '5'"),
        (write_grades('IM000000.jpg,R1'), "'R1'"),
        (write_grades('IM000000.jpg,1.5'), "'1.5'"),
        (write_grades('a.jpg,1', 'A.JPG,1'),
         "line 3: image_id 'A.JPG' is empty or listed twice"),
        (write_grades('other.jpg,1'),
         'holds no image that messidor_data.csv grades'),
        (write_to('messidor-2.csv', 'left;right\na.png;b.png\nb.png;c.png\n'),
         'line 3: expected LEFT'),
        (write_to('messidor-2.csv', 'a.png\n'),
         "line 1: expected LEFT;RIGHT, each image once, got 'a.png'")],
}


@pytest.mark.parametrize(('source', 'spoil', 'message'), [
    (source, *case) for source, cases in WRONG.items()
    for case in (*cases, (shutil.rmtree, 'does not exist'))])
def test_layout_that_is_wrong(tmp_path, source, spoil, message):
    module, write, size = source
    root = tmp_path / 'in'
    write(root, dict(size) if module in (ham10000, busi) else size)
    spoil(root)
    with pytest.raises(ValueError, match=message):
        module.find_images(root)
