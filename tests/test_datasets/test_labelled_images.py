"""LabelledImages: what it reads, and what it says of wrong files."""

import numpy as np
import pytest
from PIL import Image

from mmmedmask.datasets import LabelledImages, labelled_images
from mmmedmask.datasets.probe_sets import read_probe_sets

PIPELINE = ({'type': 'mmmedmask.LoadTile', 'in_channels': 3,
             'gray_to_rgb': True, 'drop_alpha': True},
            {'type': 'mmmedmask.PackTile',
             'meta_keys': ('img_path', 'sample_idx', 'group')})
TRAIN = """path,label,group,mask
images/a (1).png,mel,p1,masks/a.png
"images/b,2.png",NV,p1,
images/c.png,nv 2,p2,masks/c.png
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / 'classes.txt').write_text('nv 2\nNV\nmel\n')
    (tmp_path / 'splits' / 'paper').mkdir(parents=True)
    (tmp_path / 'splits/paper/train.csv').write_text(TRAIN)
    (tmp_path / 'images').mkdir()
    (tmp_path / 'masks').mkdir()
    for name in 'ac':
        Image.fromarray(np.zeros((8, 6), np.uint8)).save(
            tmp_path / f'masks/{name}.png')
    for value, (name, shape) in enumerate(
            (('a (1)', (8, 6, 3)), ('b,2', (8, 6)), ('c', (8, 6, 4)))):
        picture = np.full(shape, 10 + value, np.uint8)
        picture[..., 3:] = 255
        Image.fromarray(picture).save(tmp_path / f'images/{name}.png')
    return tmp_path


def test_reads_classes_labels_groups_and_masks(root):
    dataset = LabelledImages(
        str(root), pipeline=PIPELINE,
        metainfo={'classes': ['nv 2', 'NV', 'mel'], 'x': 1})
    assert dataset.metainfo == {'classes': ('nv 2', 'NV', 'mel'), 'x': 1}
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    assert [one['gt_label'] for one in infos] == [2, 1, 0]
    assert [one['group'] for one in infos] == ['p1', 'p1', 'p2']
    assert [one.get('lesion_path') for one in infos] == [
        str(root / 'masks/a.png'), None, str(root / 'masks/c.png')]
    assert [one['img_path'] for one in infos] == [
        str(root / 'images' / name)
        for name in ('a (1).png', 'b,2.png', 'c.png')]
    # Gray, RGB and RGBA files all come as three channels.
    packed = [dataset[index] for index in range(3)]
    assert [one['inputs'].shape for one in packed] == 3 * [(3, 8, 6)]
    assert [one['inputs'][0, 0, 0].item() for one in packed] == [10, 11, 12]
    assert [one['data_samples'].gt_label.item() for one in packed] == [2, 1, 0]
    assert packed[1]['data_samples'].group == 'p1'


@pytest.mark.parametrize('name', ['images/c.png', 'masks/c.png'])
def test_a_file_that_is_not_there_is_named_with_its_list(root, name):
    (root / name).unlink()
    with pytest.raises(FileNotFoundError, match='train.csv names 1 files that '
                       f'are not there, such as .*{name}'):
        LabelledImages(str(root), pipeline=PIPELINE)
    # What is skipped is counted when it is loaded.
    assert len(LabelledImages(str(root), on_error='skip')) == 3


def test_a_class_that_is_listed_may_have_any_name(root):
    (root / 'classes.txt').write_text('NA\nNone\n')
    (root / 'splits/paper/train.csv').write_text(
        'path,label,group,mask\nimages/c.png,NA,g,NA\n'
        'images/a (1).png,None,h,\n')
    dataset = LabelledImages(str(root))
    assert [dataset.get_data_info(place)['gt_label'] for place in (0, 1)] == [
        0, 1]
    assert 'lesion_path' not in dataset.get_data_info(0)


def test_other_splits_folders_and_parts(root):
    folder = root / 'splits' / 'lesion'
    folder.mkdir()
    # CRLF, a byte order mark, no mask column, another order of columns.
    (folder / 'val.csv').write_bytes(
        '\ufefflabel,path,group\r\nmel,images/c.png,g\r\n'
        'NV,images/a (1).png,h\r\n'.encode())
    dataset = LabelledImages(
        str(root), split='val', split_folder='splits/lesion', indices=-1)
    assert len(dataset) == 1
    info = dataset.get_data_info(0)
    assert (info['gt_label'], info['group']) == (1, 'h')
    assert 'lesion_path' not in info
    absolute = LabelledImages(
        str(root), split='val', split_folder=str(folder), lazy_init=True)
    assert len(absolute) == 2
    assert absolute.metainfo['classes'] == ('nv 2', 'NV', 'mel')


@pytest.mark.parametrize(('content', 'message'), [
    ('path,label\na,NV\n',
     r"lacks the columns \['group'\]; it has \['path', 'label'\]"),
    ('path,label,group,age\na,NV,g,3\n', 'age'),
    ('path,label,group,group\na,NV,g,g\n', "once: .'group'"),
    ('', r'train.csv is empty'),
    ('path,label,group\n', 'a header and no row'),
    ('path,label,group\na,nv,g\n', r"line 2: label must be one of .* of "
     r".*classes.txt, got 'nv'. Did you mean NV\?"),
    ('path,label,group\nz,NV,g\na,Mell,g\n',
     r"line 3: .*'Mell'. Did you mean mel\?"),
    ('path,label,group\na,xyz,g\n', r"got 'xyz'\.$"),
    ('path,label,group\na,NV,g\nb,NV,g\na,mel,g\n',
     r'line 4: a is listed in line 2'),
    ('path,label,group\na,NV,g\n./a,mel,g\n', 'line 3: ./a is listed in'),
    ('path,label,group\na,NV,\n', 'line 2: group must not be empty'),
    ('path,label,group\n,,g\n', 'line 2: path must not be empty'),
    ('path,label,group\na,,g\n', 'line 2: label must not be empty'),
    ('path,label,group\na,NV,NA\nb,NV,NA\n',
     "line 2: group must not be empty, got 'NA'"),
    ('path,label,group\na,NV,None\n', "group must not be empty, got 'None'"),
    ('path,label,group\nnan,NV,g\n', "path must not be empty, got 'nan'"),
    ('path,label,group\na,NA,g\n', "label must not be empty, got 'NA'"),
    ('path,label,group\na,NV,P1\nb,NV,p1\n', "group is 'P1' and 'p1': they"),
    ('path,label,group\na,NV,P 1\nb,NV,P\xa01\n', 'group is .* blanks or'),
    ('path,label,group\na,NV,g\nb,Nv,h\n', "label is 'NV' and 'Nv': they"),
    ('path,label,group\na,NV\n', 'line 2 has 2 cells, line 1 has 3'),
    ('path,label,group\na,NV,g,h\n', 'line 2 has 4 cells, line 1 has 3'),
])
def test_csv_that_is_wrong(root, content, message):
    (root / 'splits/paper/train.csv').write_text(content)
    with pytest.raises(ValueError, match=message):
        LabelledImages(str(root))


def test_parts_share_no_image(root, monkeypatch):
    train, val, whole = (root / f'splits/paper/{name}.csv'
                         for name in ('train', 'val', 'all'))
    for name in 'abc':
        (root / name).touch()
    train.write_text('path,label,group\na,NV,g\nb,NV,h\n')
    whole.write_text('path,label,group\na,NV,g\nb,NV,h\nc,NV,g\n')
    val.write_text('path,label,group\nc,NV,g\n')
    said = []
    monkeypatch.setattr(labelled_images, 'print_log',
                        lambda text, **_: said.append(text))
    LabelledImages(str(root))
    LabelledImages(str(root), split='all')
    assert len(said) == 1
    assert '1 of 2 groups are in val.csv, too, such as g' in said[0]
    val.write_text('path,label,group\nc,NV,G\n')
    with pytest.raises(ValueError, match=r"val\.csv: group is 'g' and 'G'"):
        LabelledImages(str(root))
    with pytest.raises(ValueError, match="group is 'g' and 'G'"):
        read_probe_sets(root)
    val.write_text('path,label,group\n./b,NV,h\n')
    train.write_text('path,label,group\na,NV,g\n./x/../b,NV,h\n')
    for part, other in (('train', 'val'), ('val', 'train')):
        with pytest.raises(ValueError, match=rf'{other}\.csv, line \d: .*b is '
                           rf'in {part}\.csv, too'):
            LabelledImages(str(root), split=part)


@pytest.mark.parametrize(('arguments', 'error', 'message'), [
    ({'split': 'test'}, FileNotFoundError,
     r"test\.csv does not exist; .*\['splits/paper/train.csv'\]"),
    ({'split_folder': 'splits/lesion'}, FileNotFoundError, 'lesion'),
    ({'data_root': 'nowhere'}, FileNotFoundError, 'nowhere'),
    ({'data_root': ''}, ValueError, 'data_root must not be empty'),
    ({'split': ''}, ValueError, 'split must not be empty'),
    ({'split_folder': ''}, ValueError, 'split_folder must not be empty'),
    ({'on_error': 'ignore'}, ValueError, "'ignore'"),
    ({'metainfo': {'classes': ('mel', 'NV', 'nv 2')}}, ValueError,
     "has the classes .'mel'")])
def test_bad_arguments(root, arguments, error, message):
    with pytest.raises(error, match=message):
        LabelledImages(**{'data_root': str(root), **arguments})


@pytest.mark.parametrize(('content', 'message'), [
    (None, 'classes.txt does not exist; tools/'), ('', 'is empty'),
    ('mel\nNV\nmel\n', r"twice: \['mel', 'mel'\]"),
    ('mel\nMEL\n', r"twice: \['mel', 'MEL'\]"),
    ('a-b\na\u2011b\n', 'twice')])
def test_class_file_that_is_wrong(root, content, message):
    (root / 'classes.txt').unlink()
    if content is not None:
        (root / 'classes.txt').write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        LabelledImages(str(root))


def test_folders_of_classes_spelled_in_two_ways(tmp_path):
    for name in ('train/mel', 'train/Mel', 'test/mel'):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(ValueError, match="class is 'Mel' and 'mel'"):
        read_probe_sets(tmp_path)
