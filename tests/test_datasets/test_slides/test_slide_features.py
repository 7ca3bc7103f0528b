"""Readers of slide features: every layout, slices, damage, cache."""

import errno
import multiprocessing
import os
import pickle
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from slide_omic_files import draw_bag, there

from mmmedmask.datasets.slides.feature_files import (
    FeatureFolder,
    SlideFeatureError,
    slide_name,
)
from mmmedmask.datasets.slides.slide_features import (
    FeatureCache,
    SlideFeatures,
    check_same_encoder,
)
from mmmedmask.phantoms.slide_files import FEATURE_LAYOUTS, write_features

LAYOUT_NAMES = {'clam-pt': 'pt', 'clam-h5': 'clam', 'trident-h5': 'trident',
                'stamp-h5': 'stamp', 'npy': 'npy', 'dump-h5': 'clam'}


@pytest.fixture(params=FEATURE_LAYOUTS)
def layout(request):
    return request.param


def test_all_layouts_give_the_same_tensor(tmp_path, layout):
    features, coords = draw_bag(70, 24, seed=1)
    # The name says nothing: the content decides.
    path = write_features(tmp_path / 'slide.bin', layout, features, coords)
    with SlideFeatures(path, dims=24) as slide:
        assert (slide.num_patches, slide.dims) == (70, 24)
        assert slide.layout == LAYOUT_NAMES[layout]
        read = slide.read()
        assert read.dtype == torch.float32
        assert torch.equal(read, torch.from_numpy(features))
        assert torch.equal(slide.read(13, 57), read[13:57])
        assert slide.read(70, 70).shape == (0, 24)
        rows = torch.tensor([69, 0, 1, 2, 2, 68, 33])
        assert torch.equal(slide.take(rows), read[rows])
        assert torch.equal(slide.take(torch.arange(5, 60)), read[5:60])


def test_coordinates_of_each_layout(tmp_path, layout):
    features, coords = draw_bag(30, 4, patch_size=448)
    path = write_features(
        tmp_path / 'a.h5', layout, features, coords, patch_size=448, mpp=0.25)
    slide = SlideFeatures(path)
    if layout in ('clam-pt', 'npy'):
        assert not slide.has_coords
        assert slide.coords is None
        assert slide.coord_unit is None
        return
    assert slide.coords.dtype == torch.int64
    if layout == 'stamp-h5':
        # Tiles of 448 px at 0.25 um are 112 um, cut at 224 px.
        assert (slide.coord_unit, slide.patch_size) == ('tile', 224)
        assert torch.equal(slide.coords, torch.from_numpy(coords) // 2)
        slide = SlideFeatures(path, mpp=0.25)
        assert slide.patch_size == 448
    assert slide.coord_unit == 'level0'
    assert torch.equal(slide.coords, torch.from_numpy(coords))
    if layout == 'trident-h5':
        assert slide.patch_size == 448


@pytest.mark.parametrize(('value', 'shown'), [
    (-1, '-1 to 768'), (2**32, '0 to 4294967296'), (2.0**70, '0 to 1.18'),
    (np.nan, 'nan to nan'), (np.uint64(2**64 - 2), '-2 to 768'),
    (2**32 - 1, '')])
def test_coordinates_are_pixels_of_a_slide(tmp_path, value, shown):
    features, coords = draw_bag(16, 4)
    coords = coords.astype(np.asarray(value).dtype)
    coords[5, 1] = value
    path = tmp_path / 'a.h5'
    with h5py.File(path, 'w') as file:
        file.update(features=features, coords=coords)
    slide = SlideFeatures(path)
    if shown:
        with pytest.raises(SlideFeatureError, match=rf'a\.h5 .* from {shown}'
                           r'.* must be pixels in \[0, 2\^32\)'):
            len(slide.coords)
    else:
        assert slide.coords.max() == value
    # Types of few bits.
    torch.save(dict(features=torch.zeros(2, 4), coords=torch.ones(
        2, 2, dtype=torch.int16)), tmp_path / 'b.pt')
    assert SlideFeatures(tmp_path / 'b.pt').coords.tolist() == [[1, 1]] * 2


def test_stamp_without_tile_size_asks_for_mpp(tmp_path):
    path = write_features(tmp_path / 'a.h5', 'stamp-h5', *draw_bag(4, 4))
    with h5py.File(path, 'a') as file:
        del file.attrs['tile_size_px']
    with pytest.raises(SlideFeatureError, match="the slide's mpp"):
        SlideFeatures(path)
    assert SlideFeatures(path, mpp=0.5).coord_unit == 'level0'


def test_dict_in_a_torch_file(tmp_path):
    features, coords = map(torch.from_numpy, draw_bag(9, 5))
    torch.save({'feats': features.half(), 'coords': coords, 'encoder': 'some'},
               tmp_path / 'a.pt')
    slide = SlideFeatures(tmp_path / 'a.pt')
    assert slide.encoder == 'some'
    assert torch.equal(slide.coords, coords)
    assert torch.equal(slide.read(), features.half().float())


@pytest.mark.parametrize(('dtype', 'new'), [
    (torch.float16, True), (torch.bfloat16, True), (torch.float64, True),
    (torch.float32, False)])
def test_other_precisions_formats_and_a_leading_one(tmp_path, dtype, new):
    features = torch.randn(1, 6, 3).to(dtype)
    torch.save(features, tmp_path / 'a.pt', _use_new_zipfile_serialization=new)
    read = SlideFeatures(tmp_path / 'a.pt').read(2, 5)
    assert torch.equal(read, features[0, 2:5].float())


def test_other_size_names_encoder_and_both_sizes(tmp_path, layout):
    path = write_features(
        tmp_path / 'a.h5', layout, *draw_bag(5, 12), encoder='uni_v2')
    encoder = ("encoder 'uni_v2'" if layout in ('trident-h5', 'stamp-h5')
               else 'an encoder that the file does not name')
    with pytest.raises(SlideFeatureError, match=f'{path} .* size 12 .{encoder}'
                       '., expected 1024'):
        SlideFeatures(path, dims=1024)


def test_empty_slide(tmp_path, layout):
    features, coords = draw_bag(0, 12)
    path = write_features(tmp_path / 'a', layout, features, coords)
    for cache in (None, tmp_path / 'cache'):
        slide = SlideFeatures(path, dims=12, cache_dir=cache)
        assert len(slide) == 0
        assert slide.read().shape == (0, 12)
        assert slide.take([]).shape == (0, 12)
        if slide.has_coords:
            assert slide.coords.shape == (0, 2)


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_not_finite_features_name_file_and_rows(tmp_path, layout, value):
    features, coords = draw_bag(60, 8)
    for row in (17, 21, 22, 40, 41, 42, 59):
        features[row, row % 8] = value
    path = write_features(tmp_path / 'bad.x', layout, features, coords)
    slide = SlideFeatures(path)
    with pytest.raises(
            SlideFeatureError,
            match=r'bad.x.* 7 of 60 .* rows 17, 21, 22, 40, 41, \.\.\.$'):
        slide.read()
    # Rows of the file, and only those that are read.
    with pytest.raises(SlideFeatureError, match=r' 1 of 3 .* rows 59$'):
        slide.read(57)
    assert slide.read(0, 17).shape == (17, 8)


def test_infinities_that_cancel_are_seen(tmp_path):
    features = np.zeros((4, 2), np.float32)
    features[2] = np.inf, -np.inf
    path = write_features(tmp_path / 'a', 'npy', features)
    with pytest.raises(SlideFeatureError, match='rows 2$'):
        SlideFeatures(path).read()


def test_objects_are_no_damage(tmp_path):
    np.save(tmp_path / 'a.npy', np.array([[1, None]], object))
    with pytest.raises(SlideFeatureError, match='holds Python objects: save'):
        SlideFeatures(tmp_path / 'a.npy')


@pytest.mark.parametrize('share', [0.1, 0.6, 0.98])
def test_truncated_files(tmp_path, layout, share):
    path = write_features(tmp_path / 'a.h5', layout, *draw_bag(300, 64))
    content = path.read_bytes()
    path.write_bytes(content[:int(share * len(content))])
    with pytest.raises(SlideFeatureError, match='truncated or damaged'):
        SlideFeatures(path).read()


def test_a_zip_with_a_damaged_directory(tmp_path):
    torch.save(torch.zeros(3, 4), tmp_path / 'a.pt')
    content = (tmp_path / 'a.pt').read_bytes()
    (tmp_path / 'a.pt').write_bytes(content.replace(b'PK\1\2', b'PKxx'))
    with pytest.raises(SlideFeatureError, match='a.pt is truncated or damag'):
        SlideFeatures(tmp_path / 'a.pt')


def test_what_the_system_refuses_is_no_damage(tmp_path, monkeypatch):
    path = write_features(tmp_path / 'a.h5', 'clam-h5', *draw_bag(3, 4))

    def refuse(*_, **__):
        raise OSError(errno.EMFILE, 'Too many open files')

    monkeypatch.setattr(h5py, 'File', refuse)
    with pytest.raises(SlideFeatureError, match='Cannot read .*Too many'):
        SlideFeatures(path)


def test_a_file_that_another_process_writes(tmp_path):
    path = write_features(tmp_path / 'a.h5', 'clam-h5', *draw_bag(3, 4))
    context = multiprocessing.get_context('fork')
    ours, theirs = context.Pipe()

    def write():
        with h5py.File(path, 'a'):
            theirs.send('open')
            theirs.recv()

    writer = context.Process(target=write, daemon=True)
    writer.start()
    assert ours.recv() == 'open'
    with pytest.raises(SlideFeatureError, match=f'{path} is open for writing '
                       'in another process'):
        SlideFeatures(path)
    ours.send('done')
    writer.join()
    assert len(SlideFeatures(path)) == 3


@pytest.mark.parametrize('side', [0, -256, np.inf])
def test_patches_have_a_width(tmp_path, side):
    path = write_features(tmp_path / 'a.h5', 'clam-h5', *draw_bag(3, 4))
    with h5py.File(path, 'a') as file:
        file['coords'].attrs.update(patch_size=side, patch_level=0)
    with pytest.raises(SlideFeatureError, match='a patch is .* wide'):
        SlideFeatures(path)


@pytest.mark.parametrize(('content', 'message'), [
    (torch.eye(5).to_sparse(), 'must hold a dense'),
    (torch.empty(5, 8, device='meta'), 'must hold a dense'),
    (torch.zeros(1).expand(10**9, 1024), 'holds fewer'),
    ({'x': torch.zeros(3)}, r"the keys \['x'\]"),
    (np.zeros(768, np.float32), 'embedding of the whole'),
    (np.zeros((3, 2), np.int64), 'int64'),
    (np.savez, r"is an npz file, .* with \['features.npy'\]: save the array"),
    (b'hello world', "begins with b'hello wo'"), (b'', r'empty \(0 bytes\)')])
def test_files_that_are_something_else(tmp_path, content, message):
    path = tmp_path / 'a'
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, np.ndarray):
        with path.open('wb') as file:
            np.save(file, content)
    elif content is np.savez:
        with path.open('wb') as file:
            content(file, features=np.zeros((3, 2), np.float32))
    else:
        torch.save(content, path)
    with pytest.raises(SlideFeatureError, match=f'{path} .*{message}'):
        SlideFeatures(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match='absent.h5'):
        SlideFeatures(tmp_path / 'absent.h5')


class _Planted:
    """Runs code when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path), )


def test_torch_files_cannot_run_code(tmp_path):
    torch.save({'features': _Planted(tmp_path / 'planted')}, tmp_path / 'a.pt')
    with pytest.raises(SlideFeatureError, match='could run code'):
        SlideFeatures(tmp_path / 'a.pt')
    assert not (tmp_path / 'planted').exists()


def _h5(path, write):
    with h5py.File(path, 'w') as file:
        write(file)
    return path


@pytest.mark.parametrize(('write', 'message'), [
    (lambda file: file.update(features=h5py.ExternalLink('a.h5', '/x')),
     "features is a link to '/x' of another file"),
    (lambda file: file.update(real=np.zeros((3, 4), np.float32),
                              features=h5py.SoftLink('/real')),
     "features is a link to '/real', which is not followed"),
    (lambda file: file.create_dataset(
        'features', (3, 4), np.float32,
        external=[('/etc/passwd', 0, h5py.h5f.UNLIMITED)]),
     'the data of features are in other files'),
    (lambda file: file.create_virtual_dataset('features', _virtual()),
     'the data of features are in other files'),
    # 40 GB of zeros in a file of some kilobytes.
    (lambda file: file.create_dataset(
        'features', (10**7, 1024), np.float32, chunks=(64, 1024),
        compression='gzip'), 'would take 40,960,000,000 bytes'),
    # One row is read, and its chunk is unpacked.
    (lambda file: file.create_dataset(
        'features', data=np.zeros((2, 1024), np.float32),
        chunks=(2**15, 1024), maxshape=(None, 1024), compression='gzip'),
     'would take 134,217,728 bytes, and the file holds'),
    (lambda file: file.update(features=np.zeros((1, 2), np.float32),
                              coords=['a']), 'coords is of type object'),
    (lambda file: file.update(embeddings=np.zeros((3, 2), np.float32)),
     r"'embeddings': \(3, 2\)"),
    (lambda file: (file.attrs.update(feat_type='slide'), file.update(
        feats=np.zeros((3, 2), np.float32))), "type 'slide'"),
    (lambda file: file.update(features=np.zeros((8, 2), np.float32),
                              coords=np.zeros((7, 2), np.int64)),
     r'shape \(7, 2\) for 8'),
])
def test_h5_files_that_reach_out_or_blow_up(tmp_path, write, message):
    with pytest.raises(SlideFeatureError, match=message):
        SlideFeatures(_h5(tmp_path / 'bad.h5', write))


def _virtual():
    layout = h5py.VirtualLayout((3, 4), np.float32)
    layout[:] = h5py.VirtualSource('other.h5', 'x', (3, 4))
    return layout


def test_bad_arguments(tmp_path):
    path = write_features(tmp_path / 'a', 'npy', *draw_bag(4, 4))
    for arguments in (dict(dims=0), dict(mpp=-1.0)):
        with pytest.raises(ValueError, match=r'must be positive, got'):
            SlideFeatures(path, **arguments)
    with pytest.raises(ValueError, match='out of range for 4'):
        SlideFeatures(path).read(2, 5)
    with pytest.raises(ValueError, match='out of range for 4'):
        SlideFeatures(path).take([0, 4])


@pytest.mark.parametrize('kind', ['clam-h5', 'trident-h5', 'stamp-h5',
                                  'dump-h5'])
def test_slice_reads_no_other_row_of_an_h5_file(tmp_path, monkeypatch, kind):
    features, coords = draw_bag(400, 4)
    path = write_features(tmp_path / 'a', kind, features, coords)
    slide = SlideFeatures(path)
    seen = []
    direct = h5py.Dataset.read_direct

    def watch(self, target, source_sel=None, dest_sel=None):
        rows = source_sel[-1] if isinstance(source_sel, tuple) else source_sel
        seen.append((rows.start, rows.stop))
        return direct(self, target, source_sel, dest_sel)

    monkeypatch.setattr(h5py.Dataset, 'read_direct', watch)
    monkeypatch.setattr(
        h5py.Dataset, '__getitem__',
        lambda *_: pytest.fail('features must be read directly'))
    slide.read(100, 160)
    assert seen == [(100, 160)]
    seen.clear()
    # Far apart: two reads. Close together: one.
    slide.take([5, 6, 9, 300, 310])
    assert seen == [(5, 10), (300, 311)]


@pytest.mark.parametrize('kind', ['clam-pt', 'npy'])
def test_slice_of_a_mapped_file_loads_few_pages(tmp_path, kind):
    # 32 MB, of which 64 kB are read.
    features = np.zeros((8000, 1024), np.float32)
    path = write_features(tmp_path / 'a', kind, features)
    with SlideFeatures(path) as slide:
        slide.read(4000, 4016)
        # Nothing would mean that the file is not mapped but loaded.
        assert 0 < _resident_kilobytes(path) < 8000


def _resident_kilobytes(path):
    """Kilobytes of a mapped file that this process has touched."""
    try:
        lines = open('/proc/self/smaps').read().splitlines()
    except OSError:
        pytest.skip('needs /proc/self/smaps')
    total, inside = 0, False
    for line in lines:
        if '-' in line.split(' ')[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith('Rss:'):
            total += int(line.split()[1])
    return total


def test_handles_do_not_travel(tmp_path, layout):
    features, coords = draw_bag(20, 4)
    path = write_features(tmp_path / 'a', layout, features, coords)
    slide = SlideFeatures(path)
    slide.read(0, 3)
    travelled = pickle.dumps(slide)
    assert len(travelled) < 2000
    copy = pickle.loads(travelled)
    assert copy._file is None
    assert torch.equal(copy.read(), torch.from_numpy(features))
    # A forked process opens its own.
    handle = slide._open()
    slide._owner = os.getpid() + 1
    assert slide._open() is not handle
    slide.close()
    assert torch.equal(slide.read(1, 2), torch.from_numpy(features[1:2]))


class TestCache:
    def test_same_rows_rounded_once(self, tmp_path, layout, monkeypatch):
        features, coords = draw_bag(50, 8)
        path = write_features(tmp_path / 'a', layout, features, coords)
        cache = tmp_path / 'new' / 'cache'
        slide = SlideFeatures(path, cache_dir=cache)
        assert not cache.exists()
        expected = torch.from_numpy(features).half().float()
        assert torch.equal(slide.read(5, 20), expected[5:20])
        copies = sorted(cache.iterdir())
        assert len(copies) == 1 + slide.has_coords
        stored = np.load(FeatureCache(cache).place(path))
        assert stored.dtype == np.float16
        # Now the original's rows are not touched.
        slide = SlideFeatures(path, cache_dir=cache)
        monkeypatch.setattr(slide._open(), 'rows',
                            lambda *_: pytest.fail('the copy must be read'))
        assert torch.equal(slide.read(), expected)
        assert torch.equal(slide.take([40, 3]), expected[[40, 3]])
        if slide.has_coords:
            plain = SlideFeatures(path).coords
            assert torch.equal(slide.coords, plain)
        assert sorted(cache.iterdir()) == copies

    def test_changed_file_gets_a_new_copy(self, tmp_path):
        path = tmp_path / 'a.npy'
        cache = tmp_path / 'cache'
        np.save(path, np.zeros((4, 2), np.float32))
        SlideFeatures(path, cache_dir=cache).read()
        np.save(path, np.ones((4, 2), np.float32))
        os.utime(path, ns=(1, 1))
        assert SlideFeatures(path, cache_dir=cache).read().eq(1).all()
        assert len(list(cache.iterdir())) == 1

    @pytest.mark.parametrize('ending', ['.npy', '.coords.npy'])
    def test_damaged_copy_is_to_be_deleted(self, tmp_path, ending):
        path = write_features(tmp_path / 'a', 'clam-h5', *draw_bag(50, 8))
        slide = SlideFeatures(path, cache_dir=tmp_path)
        expected, copy = slide.read(), FeatureCache(tmp_path).place(path)
        damaged = copy.with_suffix(ending)
        os.truncate(damaged, 200)
        with pytest.raises(SlideFeatureError) as error:
            slide.read(), slide.coords
        assert str(error.value).startswith(
            f'{damaged} is truncated or damaged, delete {copy}, it is made ')
        copy.unlink()
        assert torch.equal(slide.read(), expected)
        assert slide.coords.shape == (50, 2)

    @pytest.mark.parametrize(('value', 'message', 'copies'), [
        (70000, '70000.*leave out', 0), (-1e-8, '1e-08.*leave out', 0),
        (np.nan, 'rows 3$', 1)])
    def test_bad_values(self, tmp_path, value, message, copies):
        """Too large or small ones leave no copy, NaN is refused from it."""
        features = np.zeros((4, 2), np.float32)
        features[3, 1] = value
        path = write_features(tmp_path / 'a', 'npy', features)
        slide = SlideFeatures(path, cache_dir=tmp_path / 'cache')
        for _ in range(2):
            with pytest.raises(SlideFeatureError, match=message):
                slide.read()
        assert len(list((tmp_path / 'cache').iterdir())) == copies


def test_a_full_disk_reads_on_without_a_copy(tmp_path, limited_files):
    """No SIGBUS, no part of a file, no more trials; features are right."""
    features = np.random.default_rng(0).normal(size=(900, 64)).astype('f4')
    for name, count in (('a', 900), ('b', 9)):
        with h5py.File(tmp_path / f'{name}.h5', 'w') as file:
            file['features'] = features[:count]
            file['coords'] = np.zeros((count, 2), np.int64)
    old = tmp_path / 'cache' / '.x.part.npy'
    old.parent.mkdir()
    old.touch()
    os.utime(old, (0, 0))

    def work():
        for name, count in (('a', 900), ('b', 9)):
            slide = SlideFeatures(
                tmp_path / f'{name}.h5', cache_dir=tmp_path / 'cache')
            np.testing.assert_array_equal(slide.read(), features[:count])

    # The coordinates and the second slide would fit, 115 kB do not.
    assert limited_files(50_000, work) == 0
    assert list((tmp_path / 'cache').iterdir()) == []


class TestNames:
    @pytest.mark.parametrize(('name', 'expected'), [
        ('slide.svs', 'slide'), ('a.svs.svs', 'a'), ('A.SVS', 'A'),
        ('b.ome.tiff', 'b'), (' c.mrxs ', 'c'),
        # rstrip('.svs') gives 'as' and 'v.1' here.
        ('asvs.svs', 'asvs'), ('vss', 'vss'), ('v.1.s', 'v.1.s'),
        ('TCGA-3C-AALI-01Z-00-DX1.F6E9A5DF-D8FB',
         'TCGA-3C-AALI-01Z-00-DX1.F6E9A5DF-D8FB'),
        ('TCGA-3C-AALI-01Z-00-DX1.F6E9A5DF.svs.h5',
         'TCGA-3C-AALI-01Z-00-DX1.F6E9A5DF')])
    def test_endings(self, name, expected):
        assert slide_name(name) == expected

    def test_nothing_left(self):
        with pytest.raises(ValueError, match="'.svs' is not the name"):
            slide_name('.svs')

    def test_finds_files_by_slide(self, tmp_path):
        """The one with coordinates of those that CLAM writes."""
        for name in ('c.h5', 'd.1.svs.pt', 'h5_files/a.h5', 'pt_files/a.pt',
                     'pt_files/b.pt'):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        folder = FeatureFolder(tmp_path)
        for slide, name in (
                ('c.svs', 'c.h5'), ('d.1', 'd.1.svs.pt'),
                ('a', 'h5_files/a.h5'), ('b', 'pt_files/b.pt')):
            assert folder.find(slide) == tmp_path / name
        assert folder.find('d') is None
        (tmp_path / 'Mu\u0308ller.h5').touch()
        assert FeatureFolder(tmp_path).find('M\xfcller.svs') == (
            tmp_path / 'Mu\u0308ller.h5')
        (tmp_path / 'a.npy').touch()
        with pytest.raises(ValueError, match='features_path'):
            FeatureFolder(tmp_path).find('a')

    def test_folder_without_files_says_where_they_are(self, tmp_path):
        (tmp_path / '20x/features_uni').mkdir(parents=True)
        (tmp_path / '20x/features_uni/a.h5').touch()
        with pytest.raises(FileNotFoundError, match='20x/features_uni'):
            FeatureFolder(tmp_path)
        with pytest.raises(FileNotFoundError, match='does not exist'):
            FeatureFolder(tmp_path / 'absent')

    def test_a_folder_that_cannot_be_read_is_named(self, tmp_path,
                                                   lock_folder):
        for name in ('h5_files/a.h5', 'pt_files/a.pt'):
            (tmp_path / name).parent.mkdir()
            (tmp_path / name).touch()
        lock_folder(tmp_path / 'h5_files')
        with pytest.raises(PermissionError, match='h5_files'):
            FeatureFolder(tmp_path)


class TestRealFiles:
    def test_feats_and_coords(self, data_root):
        path = _mopadi(data_root, 'TCGA-AD-6964-01Z-00-DX1')
        slide = SlideFeatures(path, dims=512)
        assert slide.num_patches == 777
        assert slide.layout == 'stamp'
        assert slide.encoder is None
        with h5py.File(path) as file:
            assert np.array_equal(slide.read(100, 200), file['feats'][100:200])
            assert np.array_equal(slide.coords, file['coords'][()])
        assert set((slide.coords % 512).unique().tolist()) == {0}

    def test_features_and_metadata(self, data_root):
        path = _mopadi(data_root, 'TCGA-3X-AAVA-01Z-00-DX1')
        slide = SlideFeatures(path)
        assert (slide.num_patches, slide.dims) == (180, 512)
        assert slide.coords is None
        assert slide.read().isfinite().all()


def _mopadi(data_root, slide):
    return there(data_root / 'wsi/mopadi_example_data' / slide / 'features.h5')


@pytest.mark.parametrize(('first', 'second', 'fits', 'fits_with_weights'), [
    ('UNI', 'uni', True, False), ('uni_v1', 'MahmoodLab/UNI', True, False),
    ('uni_v1', 'timm:hf-hub:MahmoodLab/UNI', True, False),
    ('resnet50', 'resnet50-block3', True, False),
    ('resnet50', 'resnet50_ssl', 'told', False),
    ('hf-hub:a/chief-ctranspath', 'ctranspath', 'told', False),
    ('uni', None, True, True), ('encoder', 'encoder', True, True),
    ('timm:local-dir:/a/b', 'timm:local-dir:/c/b', False, True),
    ('uni', 'resnet50-block3', False, False), ('model', 'uni', False, False),
    ('uni_v1', 'uni_v2', False, False), ('vit_b_16', 'vit_b_32', False, False),
    ('resnet50-block3', 'resnet101-block3', False, False),
    ('kaiko-vitb8', 'kaiko-vitb16', False, False)])
def test_one_encoder_has_several_spellings(first, second, fits,
                                           fits_with_weights, monkeypatch):
    lines = []
    monkeypatch.setattr('mmmedmask.datasets.slides.slide_features.print_log',
                        lambda text, *_: lines.append(text))
    for weights, fit in (('one', fits_with_weights), (None, fits)):
        slides = [SimpleNamespace(path=str(name), dims=8, weights=told,
                                  encoder=name)
                  for name, told in ((None, None), (first, 'one'),
                                     (second, weights))]
        if fit:
            for _ in range(2):
                check_same_encoder(slides)
        else:
            with pytest.raises(ValueError, match='a model takes one encoder'):
                check_same_encoder(slides)
    assert [f'{first} and {second} are' in line for line in lines] == [
        True] * (fits == 'told')
