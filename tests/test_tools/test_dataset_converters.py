"""tools/dataset_converters/convert.py, as users run it."""

import csv
import json
import re
import sys
from functools import partial
from importlib import import_module

import cv2
import numpy as np
import pytest
import tifffile
from commands import TOOLS, call, load, run
from labelled_downloads import SMALL_DOWNLOADS, write_brain_download
from PIL import Image

from mmmedmask.datasets import SlideOmicDataset
from mmmedmask.datasets.coco_instances import MASK_KINDS
from mmmedmask.datasets.conversion.copies import NEAR_THRESHOLD
from mmmedmask.datasets.nct_crc import NCT_CLASSES
from mmmedmask.phantoms.glands import draw_gland_image

TOOL = 'dataset_converters/convert.py'
LABELLED = ('messidor2', 'brain_tumor_mri', 'ham10000', 'busi')
convert = partial(call, TOOL)


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.astype(np.uint8)).save(path)


def save_glas(folder, image, mask, names=('train_1', 'testA_1'),
              ending='.png'):
    for name in names:
        save(folder / f'{name}{ending}', image)
        save(folder / f'{name}_anno{ending}', mask)


def test_help_imports_no_library_and_names_all():
    """In a process of its own, whose modules are counted."""
    code = ('import runpy, sys\n'
            'try:\n'
            f'    runpy.run_path({str(TOOLS / TOOL)!r}, run_name="__main__")\n'
            'except SystemExit as end:\n'
            '    heavy = {"numpy", "cv2", "torch", "mmengine"} | {'
            '"mmmedmask." + name for name in ("datasets", "models", '
            '"registry", "experiments", "engine")}\n'
            '    print(end.code, sorted(heavy & set(sys.modules)))\n')
    printed = run(sys.executable, '-c', code, '--help')
    assert printed.endswith('0 []\n')
    for name in load(TOOL).CONVERTERS:
        assert re.search(rf'^    {name}\b', printed, re.MULTILINE), name
    printed = run(sys.executable, '-c', code, 'glas', '--help')
    assert printed.endswith('0 []\n')
    assert '--split-components' in printed
    assert 'train (85)' in printed


def test_defaults_are_those_of_the_package():
    """The tool repeats them, since it imports nothing for its help."""
    tool = load(TOOL)
    for name in (*LABELLED, 'glas', 'crag', 'nct_crc'):
        needed = ['in', 'out'] if name in LABELLED else ['in']
        expected = getattr(
            import_module(f'mmmedmask.datasets.conversion.{name}'),
            name.upper()).near_threshold if name in LABELLED else \
            NEAR_THRESHOLD
        assert tool.parse_args([name, *needed]).near_threshold == expected
    kinds = dict(tool.GLAND_OPTIONS)['--mask-kind', ]
    assert kinds['choices'] == MASK_KINDS


@pytest.mark.parametrize(('arguments', 'message'), [
    (['glass', '.'], "there is no 'glass'. Did you mean glas? Names: glas, c"),
    ([], 'the following arguments are required: NAME'), (['glas'], 'source'),
    (['glas', '.', '--mask-kind', 'colour'], 'colour'),
    (['glas', '.', '--chek'], 'unrecognized arguments: --chek'),
    (['nct_crc', '.', '--near-threshold', '0'], 'must be in (0, 1], got 0.0'),
    (['crag', '.', '--near-threshold', '2'], 'must be in (0, 1], got 2.0'),
    *(([name, '.'], 'required: out') for name in LABELLED)])
def test_bad_usage(arguments, message):
    assert message in convert(*arguments, status=2)


@pytest.mark.parametrize(('arguments', 'message'), [
    (['glas', 'nowhere'], 'error: nowhere does not exist'),
    (['glas', '.', '--min-area', '-3'], 'got -3'),
    (['crag', '.'], 'no such folder'),
    (['nct_crc', 'nowhere'], 'does not exist'),
    *(([name, 'nowhere', 'out'], 'error: nowhere does not exist')
      for name in LABELLED),
    (['cut_tiles', 'out/..', '.'], 'error: . holds the pictures'),
    (['cut_tiles', '.', 'out'], "error: no picture in . matches '*'"),
    (['cut_tiles', '.', 'out', '--size', '0'], 'got 0'),
    (['pair_tiles_and_genes', '--tiles', 'a', 'b', '--genes', 'c', '--out',
      'out'], '2 folders of tiles need as many files of genes, got 1'),
])
def test_bad_input_gets_a_plain_message(tmp_path, arguments, message):
    assert message in convert(*arguments, status=1, cwd=tmp_path)
    assert not list(tmp_path.iterdir())


def test_glas_binary_masks_are_converted_with_a_warning(tmp_path):
    for seed, name in enumerate(('train_1', 'testA_1')):
        image, labels = draw_gland_image(96, seed)
        save_glas(tmp_path, image, 255 * (labels > 0), (name, ))
    # From another folder, as users do.
    printed = run(sys.executable, TOOLS / TOOL, 'glas', '.', '--check',
                  cwd=tmp_path)
    assert 'train.json: 1 images' in printed
    assert 'WARNING: 1 of 1 masks are binary' in printed
    assert 'train 1 of 85, testA 1 of 60, testB 0 of 20' in printed
    assert 'PROBLEMS: none' in printed
    content = json.loads((tmp_path / 'annotations/train.json').read_text())
    assert content['images'][0]['file_name'] == 'train_1.png'
    assert (tmp_path / 'annotations/check.txt').is_file()


def test_crag_with_copies_across_splits_fails_the_check(tmp_path):
    for name in ('train', 'valid'):
        image, labels = draw_gland_image(96, 0)
        save(tmp_path / f'CRAG/{name}/Images/1.png', image)
        save(tmp_path / f'CRAG/{name}/Annotation/1.png', labels)
    printed = convert('crag', tmp_path, tmp_path / 'out', '--check', status=1)
    assert 'identical_across_splits (1)' in printed
    assert 'train 1 of 173, test 1 of 40' in printed
    report = json.loads((tmp_path / 'out/check.json').read_text())
    assert len(report['problems'][0]['files']) == 2
    content = json.loads((tmp_path / 'out/test.json').read_text())
    assert content['images'][0]['file_name'] == 'CRAG/valid/Images/1.png'


def test_broken_image_is_named_and_nothing_written(tmp_path):
    image, labels = draw_gland_image(96, 0)
    save_glas(tmp_path, image, labels, ('train_1', 'testB_1'), '.bmp')
    (tmp_path / 'testB_1.bmp').write_bytes(b'BM')
    printed = convert('glas', tmp_path, status=1)
    assert 'testB_1.bmp' in printed
    assert 'nothing was written' in printed
    assert not (tmp_path / 'annotations').exists()
    # The check goes on nevertheless, and reports all.
    printed = convert('glas', tmp_path, '--check', status=1)
    assert 'nothing was written' in printed
    assert 'testB_1.bmp' in (tmp_path / 'annotations/check.txt').read_text()


def test_options_reach_the_annotations(tmp_path):
    image, _ = draw_gland_image(96, 0)
    mask = np.zeros((96, 96))
    mask[:30, :30] = mask[60:, 60:] = 1
    save_glas(tmp_path, image, mask, ('train_2', 'testA_1'))
    mask[50, 5] = 2
    save_glas(tmp_path, image, mask, ('train_1', ))
    for options, number, said in (
            ((), 3, ['1 instances have fewer than 100 pixels',
                     '2 instances consist of several parts']),
            (('--split-components', '--min-area', '10'), 4,
             ['1 instances left out']),
            (('--mask-kind', 'binary'), 5, [])):
        printed = convert('glas', tmp_path, *options)
        assert f'2 images, {number} instances' in printed
        for words in said:
            assert words in printed
    # Masks of zeros and ones are suspected to be binary.
    save_glas(tmp_path, image, mask > 0, ('train_1', ))
    assert 'WARNING: no mask holds a number but 1.' in convert(
        'glas', tmp_path)
    assert 'WARNING' not in convert('glas', tmp_path, '--mask-kind', 'binary')


def test_nct_crc(tmp_path):
    rng = np.random.default_rng(0)
    for name in NCT_CLASSES:
        coarse = rng.integers(0, 256, (28, 28, 3), np.uint8)
        save(tmp_path / 'data' / name / f'{name}-A.tif',
             np.kron(coarse, np.ones((8, 8, 1))))
    printed = convert('nct_crc', tmp_path, '--val-fraction', '0.34', '--check')
    assert 'train: 6 tiles (ConCL: 80000)' in printed
    assert 'TUM 1 of 14317' in printed
    assert 'drew a split' in printed
    before = (tmp_path / 'meta/train.txt').read_text()
    assert 'list files that are there are used' in convert(
        'nct_crc', tmp_path, '--seed', '5')
    assert (tmp_path / 'meta/train.txt').read_text() == before
    assert '--overwrite' in convert(
        'nct_crc', tmp_path, '--lists', tmp_path / 'meta', status=1)
    convert('nct_crc', tmp_path, '--seed', '5', '--overwrite')
    assert (tmp_path / 'meta/train.txt').read_text() != before


def test_cut_tiles_covers_every_pixel(tmp_path):
    """Tiles at the border are moved inwards; together they show it all."""
    picture = np.random.default_rng(0).integers(
        0, 256, (50, 70, 3), dtype=np.uint8)
    save(tmp_path / 'in/a.png', picture)
    save(tmp_path / 'in/a_anno.png', picture[..., 0])
    save(tmp_path / 'in/more/b.png', picture)
    for name in ('a.txt', 'b.svs', 'c.svs', 'noname', '.hidden'):
        (tmp_path / 'in' / name).touch()
    printed = convert('cut_tiles', tmp_path / 'in', tmp_path / 'out',
                      '--size', 32, '--stride', 20, '--exclude', '*_anno*')
    assert '6 tiles from 1 pictures' in printed
    assert ('NOTICE: Left out: 2 .svs, 1 .txt, 1 folder, 1 no extension, 1 '
            'picture by --include and --exclude.') in printed
    canvas = np.full((50, 70, 3), -1)
    for path in (tmp_path / 'out').iterdir():
        top, left = map(int, re.findall(r'[yx](\d+)', path.stem))
        canvas[top:top + 32, left:left + 32] = cv2.imread(str(path))[..., ::-1]
    assert np.array_equal(canvas, picture)
    message = convert('cut_tiles', tmp_path / 'in', tmp_path / 'out', '--size',
                      32, '--exclude', '*_anno*', '--stride', 30, status=1)
    assert 'a_y00000_x00020.png exists and is no tile of this cut' in message
    assert len(list((tmp_path / 'out').iterdir())) == 6
    printed = convert('cut_tiles', tmp_path / 'in/more', tmp_path / 'out',
                      '--size', 32, '--stride', 30)
    assert (f'NOTICE: {tmp_path / "out"} also holds 6 tiles of other '
            'pictures') in printed
    assert printed.rstrip().endswith('too: a.')


def test_tiles_of_two_pictures_never_overwrite_each_other(tmp_path):
    """Neither of two endings, nor of two folders."""
    for number, name in enumerate(('a/p.png', 'b/p.png', 'c/p.png',
                                   'c/P.bmp')):
        save(tmp_path / name, np.full((32, 32, 3), 50 * number))
    message = convert('cut_tiles', tmp_path / 'c', tmp_path / 'out',
                      '--size', 32, status=1)
    assert 'P.bmp and p.png would have the same names' in message
    for folder, status in (('a', 0), ('a', 0), ('b', 1)):
        message = convert('cut_tiles', tmp_path / folder, tmp_path / 'out',
                          '--size', 32, status=status)
    assert '0 tiles from 1 pictures' in message
    assert 'exists, with other pixels' in message


@pytest.mark.parametrize(('shape', 'dtype', 'message'), [
    ((40, 40, 3), np.float32, '3 of float32'),
    ((5, 40, 40), np.uint8, '5 of uint8'),
    ((20, 70, 3), np.uint8, 'it measures 20x70 pixels, less than --size 32')])
def test_what_cannot_be_cut_is_counted(tmp_path, shape, dtype, message):
    save(tmp_path / 'a.png', np.zeros((40, 40, 3)))
    tifffile.imwrite(tmp_path / 'b.tif', np.zeros(shape, dtype))
    said = convert('cut_tiles', tmp_path, tmp_path / 'out', '--size', 32,
                   '--stride', 32, status=1)
    assert '4 tiles from 2 pictures' in said
    assert message in said
    assert '1 problems' in said


@pytest.mark.parametrize(('name', 'lines'), [
    ('ham10000', ['paper/val: 6 images (akiec 0, bcc 0, bkl 1, df 0, mel 2, '
                  'nv 3, vasc 0)', 'lesion/val: ']),
    ('busi', ['paper/val: 6 images', 'grouped/val: 6 images']),
    ('messidor2', ['paper/val: 8 images', 'patient/val: ']),
    ('brain_tumor_mri', ['official/val: 8 images', 'clean/val: 8 images',
                         'clean-train/val: 8 images'])])
def test_labelled_images(tmp_path, name, lines):
    SMALL_DOWNLOADS[name](tmp_path / 'in')
    out = tmp_path / 'out'
    printed = convert(name, tmp_path / 'in', out, '--copy')
    assert f'{out}: 0 files linked' in printed
    assert 'NOTICE: This is not the complete' in printed
    for line in lines:
        assert line in printed
    assert len(list(out.glob('splits/*'))) == len(lines)
    drawn = out / 'splits' / lines[0].split(':')[0]
    before = drawn.with_suffix('.csv').read_bytes()
    printed = convert(name, tmp_path / 'in', out, '--seed', '3', '--check')
    assert 'PROBLEMS: none' in printed
    assert f'The complete report: {out / "check.txt"}' in printed
    # Nothing is drawn for Brain Tumor MRI.
    after = drawn.with_suffix('.csv').read_bytes()
    assert (before == after) == (name == 'brain_tumor_mri')


def test_broken_labelled_image_is_named_and_nothing_written(tmp_path):
    write_brain_download(tmp_path / 'in')
    (tmp_path / 'in/Testing/glioma/Te-gl_0000.jpg').write_bytes(b'\xff\xd8')
    printed = convert('brain_tumor_mri', tmp_path / 'in', tmp_path / 'out',
                      '--check', status=1)
    assert 'Te-gl_0000.jpg' in printed
    assert 'error: nothing was written' in printed
    assert not (tmp_path / 'out').exists()


def musk_table(path, num_molecules=9):
    """Molecules of one to three shapes, the odd ones are musk."""
    lines = [
        [molecule % 2, molecule, *(100 * molecule + shape for _ in range(166))]
        for molecule in range(1, num_molecules + 1)
        for shape in range(1 + molecule % 3)]
    path.write_text(''.join(
        ','.join(map(str, line)) + '\n' for line in reversed(lines)))
    return path


def test_musk_bags_folds_and_cohort(tmp_path):
    table = musk_table(tmp_path / 'musk.csv', 12)
    out = tmp_path / 'out'
    printed = convert('musk', table, out, '--folds', 3)
    assert ("12 molecules {'musk': 6, 'non-musk': 6} of 1 to 3 shapes, "
            '3 folds') in printed
    tested = []
    for fold in range(3):
        train, test = (
            SlideOmicDataset(
                'cohort.csv', str(out), split,
                split_file=f'folds/splits_{fold}.csv', modalities=['slides'],
                feature_root=str(out / 'features'))
            for split in ('train', 'test'))
        assert (len(train), len(test)) == (8, 4)
        assert sum(test.get_gt_labels()) == 2
        tested += [test.get_data_info(place)['case_id'] for place in range(4)]
    assert sorted(tested) == [f'molecule-{n:02d}' for n in range(1, 13)]
    # In angstrom, in the order of the table.
    shapes = np.load(out / 'features' / 'molecule-02.npy')
    assert shapes.shape == (3, 166)
    assert shapes[:, 0].tolist() == pytest.approx([2.02, 2.01, 2.0])


@pytest.mark.parametrize(('line', 'message'), [
    ('1,1,5', 'has 3 columns, expected label, molecule and 166'),
    ('2,1' + 166 * ',0', "the label must be one of ('0', '1'), got '2'"),
    ('1,1' + 165 * ',0' + ',nan', 'a feature that is not finite'),
    ('1,1' + 165 * ',0' + ',x', "line 1: 167 must be a number, got 'x'"),
    ('1,1' + 166 * ',0' + '\n0,1' + 166 * ',0',
     'line 2 gives molecule 1 another label'),
    ('', 'is empty'),
    ('1,1' + 166 * ',0', "class 'musk' has 1 cases: 10 folds")])
def test_musk_tables_that_are_wrong(tmp_path, line, message):
    table = tmp_path / 'musk.csv'
    table.write_text(line and line + '\n')
    assert message in convert('musk', table, tmp_path / 'out', status=1)
    assert not (tmp_path / 'out').exists()


def _draw_tiles_and_genes(folder):
    """Six tiles and four samples of two classes."""
    random = np.random.default_rng(0)
    for label in ('bright', 'dark'):
        for number in range(6):
            tile = random.integers(0, 100, (32, 32, 3), np.uint8)
            save(folder / label / f'{number}.png',
                 tile + 150 * (label == 'bright'))
        genes = [f'ENSG{number:011d}' for number in range(20)]
        values = random.integers(1, 900, (20, 4)) + .5
        lines = ['\t'.join(['', *(f'{label}-{n}' for n in range(4))])]
        lines += ['\t'.join([gene, *map(str, row)])
                  for gene, row in zip(genes, values, strict=True)]
        (folder / f'{label}_tpm.tsv').write_text('\n'.join(lines) + '\n')


def test_paired_tiles_and_genes_say_what_they_are(tmp_path):
    _draw_tiles_and_genes(tmp_path)
    out = tmp_path / 'out'
    printed = convert(
        'pair_tiles_and_genes', '--tiles', tmp_path / 'bright',
        tmp_path / 'dark', '--genes', tmp_path / 'bright_tpm.tsv',
        tmp_path / 'dark_tpm.tsv', '--unit', 'tpm', '--bag-size', 2,
        '--tile-size', 32, '--split', .34, .33, .33, '--out', out)
    # 4 x 4 patches of each of two tiles.
    assert '6 bags of 32 to 32 patches' in printed
    assert 'synthetic pairing' in printed
    assert (out / 'README.txt').read_text().startswith('SYNTHETIC PAIRING')
    with (out / 'cohort.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert len({row['rna_id'] for row in rows}) == len(rows) == 6
    for row in rows:
        assert row['rna_id'].startswith(row['label'])
    dataset = SlideOmicDataset(
        'cohort.csv', data_root=str(out), split='train',
        feature_root='features',
        expression=dict(path=['expression/bright.npz', 'expression/dark.npz']),
        pipeline=[dict(type='mmmedmask.LoadSlideFeatures'),
                  dict(type='mmmedmask.LoadExpression'),
                  dict(type='mmmedmask.PackSlideOmicInputs')])
    assert len(dataset) == 2
    inputs = dataset[0]['inputs']
    assert inputs['patches'].shape == (32, 128)
    assert inputs['patches'].isfinite().all()
    assert inputs['genes'].shape == (20, )
    places = inputs['coords']
    # Two tiles side by side, row by row inside each.
    assert places[:5].tolist() == [[0, 0], [8, 0], [16, 0], [24, 0], [0, 8]]
    assert places[16].tolist() == [32, 0]
    assert len(np.unique(places, axis=0)) == 32
