"""DICOM and NIfTI through the one reader, from the files to the batch."""

import itertools
import math

import imagecodecs
import nibabel
import numpy as np
import pydicom
import pytest
from commands import call
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from mmmedmask.apis.inferencers import list_inputs
from mmmedmask.datasets import LabelledImages, TileFolder
from mmmedmask.datasets.conversion.dicom import dicom_source
from mmmedmask.datasets.conversion.labelled_conversion import prepare
from mmmedmask.datasets.image_io import ImageFileError, read_image
from mmmedmask.datasets.probe_sets import load_image, read_probe_sets
from mmmedmask.datasets.radiology import AXES, Window
from mmmedmask.datasets.transforms import LoadTile
from mmmedmask.visualization.pictures import picture_of


def write_dicom(path, values, rle=False, BitsStored=None,  # noqa: N803
                PhotometricInterpretation=None, **header):  # noqa: N803
    """Write gray (h, w), frames (n, h, w) or RGB (h, w, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = uid.CTImageStorage
    data.SOPClassUID = uid.CTImageStorage
    data.set_pixel_data(
        values, PhotometricInterpretation or (
            'RGB' if values.shape[-1] == 3 else 'MONOCHROME2'),
        BitsStored or 8 * values.dtype.itemsize)
    for name, value in header.items():
        setattr(data, name, value)
    if rle:
        data.compress(uid.RLELossless)
    data.save_as(path, enforce_file_format=True)
    return path


def ramp(dtype='uint16', low=0, high=4095, size=(6, 8)):
    return np.linspace(low, high, math.prod(size)).round().astype(
        dtype).reshape(size)


def naive_window(value, center, width, function='LINEAR'):
    """PS3.3, C.11.2.1.2, for one value, to 0 ... 1."""
    if function == 'SIGMOID':
        return 1 / (1 + math.exp(min(-4 * (value - center) / width, 700)))
    if function == 'LINEAR':
        center, width = center - .5, width - 1
    if value <= center - width / 2:
        return 0.
    return 1. if value > center + width / 2 else (value - center) / width + .5


@pytest.mark.parametrize('function', ['LINEAR', 'LINEAR_EXACT', 'SIGMOID'])
@pytest.mark.parametrize(('center', 'width'), [(40, 400), (-600, 1500.5),
                                               (0, 1)])
def test_windows_are_dicoms(function, center, width):
    values = np.arange(-1024, 1024, 3)
    got = Window(center, width, function).apply(values)
    expected = [naive_window(value, center, width, function)
                for value in values]
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_stored_values_of_8_12_and_16_bits(tmp_path):
    for dtype, high, bits in (('uint8', 255, 8), ('uint16', 4095, 12),
                              ('uint16', 65535, 16)):
        values = ramp(dtype, 0, high)
        path = write_dicom(tmp_path / 'a.dcm', values, BitsStored=bits)
        read = read_image(path)
        assert read.dtype == dtype
        np.testing.assert_array_equal(read[..., 0], values)


@pytest.mark.parametrize('rle', [False, True])
def test_rescaled_values_are_in_the_units_of_the_header(tmp_path, rle):
    values = ramp('int16', -200, 1000)
    path = write_dicom(tmp_path / 'ct.dcm', values, rle, RescaleSlope=2,
                       RescaleIntercept=-1024, WindowCenter=[40, 300],
                       WindowWidth=[400, 1500])
    hounsfield = values * 2. - 1024
    np.testing.assert_array_equal(read_image(path)[..., 0], hounsfield)
    # Windows are in these units; of several the header's first counts.
    for window, numbers in (('header', (40, 400)), ((-600, 1500), ) * 2):
        shown = read_image(path, window)[..., 0]
        expected = np.vectorize(naive_window)(hounsfield, *numbers)
        np.testing.assert_allclose(shown, expected, atol=1e-6)


@pytest.mark.parametrize('name', ['WindowCenter', 'WindowWidth'])
def test_half_a_window_is_none(tmp_path, name):
    values = ramp('int16', -200, 1000)
    path = write_dicom(tmp_path / 'ct.dcm', values, **{name: 40})
    np.testing.assert_array_equal(read_image(path)[..., 0], values)
    with pytest.raises(ImageFileError, match='has no window'):
        read_image(path, 'header')


LOSSLESS = {
    uid.JPEG2000: 'jpeg2k', uid.JPEG2000Lossless: 'jpeg2k', uid.HTJ2K: 'htj2k',
    uid.HTJ2KLossless: 'htj2k', uid.HTJ2KLosslessRPCL: 'htj2k',
    uid.JPEGLossless: 'ljpeg', uid.JPEGLosslessSV1: 'ljpeg',
    uid.JPEGLSLossless: 'jpegls', uid.JPEGLSNearLossless: 'jpegls'}


def compress(path, syntax, frames, photometric=None):
    """Put compressed frames into a file in the place of its pixels."""
    data = pydicom.dcmread(path)
    data.PixelData = encapsulate([bytes(frame) for frame in frames])
    data['PixelData'].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = syntax
    if photometric:
        data.PhotometricInterpretation = photometric
    data.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize('syntax', LOSSLESS, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize(('dtype', 'low', 'high', 'bits'), [
    ('uint8', 0, 255, 8), ('uint16', 0, 4095, 12), ('uint16', 0, 65535, 16),
    ('int16', -900, 2047, 12), ('int16', -3000, 30000, 16)])
def test_compression_without_loss(tmp_path, syntax, dtype, low, high, bits):
    codec = LOSSLESS[syntax]
    frames = np.stack([ramp(dtype, low, high, (32, 48)),
                       ramp(dtype, low, high, (32, 48))[::-1]])
    path = write_dicom(tmp_path / 'a.dcm', frames, BitsStored=bits)
    given = frames
    if codec in ('ljpeg', 'jpegls') and bits > 8:
        # They know no sign: two's complement in the stored bits.
        given = frames.view('uint16') & (2**bits - 1)
    options = dict(jpeg2k=dict(codecformat='J2K', reversible=True, level=0),
                   ljpeg=dict(bitspersample=bits)).get(codec, {})
    encode = getattr(imagecodecs, f'{codec}_encode')
    compress(path, syntax, [encode(np.ascontiguousarray(frame), **options)
                            for frame in given])
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(
            read_image(f'{path}#frame={number}')[..., 0], frame)


@pytest.mark.parametrize(('syntax', 'dtype', 'bits', 'error'), [
    (uid.JPEGBaseline8Bit, 'uint8', 8, 2),
    (uid.JPEGExtended12Bit, 'uint16', 12, 16)])
def test_compression_with_loss(tmp_path, syntax, dtype, bits, error):
    values = ramp(dtype, 0, 2**bits - 1, (32, 48))
    path = write_dicom(tmp_path / 'a.dcm', values, BitsStored=bits)
    compress(path, syntax, [imagecodecs.jpeg8_encode(
        values, level=98, bitspersample=bits)])
    difference = read_image(path)[..., 0].astype(int) - values
    assert np.abs(difference).max() <= error


@pytest.mark.parametrize(('syntax', 'codec', 'kind', 'options'), [
    (uid.JPEGBaseline8Bit, 'jpeg8', 'YBR_FULL_422', dict(level=98)),
    (uid.JPEG2000Lossless, 'jpeg2k', 'YBR_RCT',
     dict(codecformat='J2K', reversible=True, level=0)),
    (uid.JPEGLSLossless, 'jpegls', 'RGB', {}),
    (uid.HTJ2KLossless, 'htj2k', 'RGB', {})])
def test_compressed_colours_are_rgb(tmp_path, syntax, codec, kind, options):
    values = np.stack([ramp('uint8', 0, 255, (32, 48)),
                       ramp('uint8', 200, 90, (32, 48)),
                       ramp('uint8', 10, 60, (32, 48))], axis=2)
    path = write_dicom(tmp_path / 'a.dcm', values)
    encode = getattr(imagecodecs, f'{codec}_encode')
    compress(path, syntax, [encode(values, **options)], kind)
    difference = read_image(path).astype(int) - values
    assert np.abs(difference).max() <= (8 if codec == 'jpeg8' else 0)


def test_compression_that_nothing_decodes_is_named(tmp_path):
    path = write_dicom(tmp_path / 'a.dcm', ramp())
    compress(path, uid.MPEG2MPML, [b'film'])
    with pytest.raises(ImageFileError, match='MPEG2 Main Profile'):
        read_image(path)
    # A frame of another size than the header's.
    compress(path, uid.JPEGLSLossless, [imagecodecs.jpegls_encode(ramp()[:4])])
    with pytest.raises(ImageFileError, match=r'\(4, 8\).*\(6, 8, 1\)'):
        read_image(path)


@pytest.mark.parametrize('intercept', [0, -1024])
def test_monochrome1_is_turned_around(tmp_path, intercept):
    values = ramp()
    both = [write_dicom(
        tmp_path / f'{kind}.dcm', values, BitsStored=12,
        PhotometricInterpretation=kind, RescaleIntercept=intercept,
        RescaleSlope=1) for kind in ('MONOCHROME1', 'MONOCHROME2')]
    turned, plain = (read_image(path) for path in both)
    np.testing.assert_array_equal(
        turned.astype(float), 4095 + 2 * intercept - plain.astype(float))
    assert turned.dtype == (np.uint16 if intercept == 0 else np.float32)
    turned, plain = (read_image(path, (900, 700)) for path in both)
    np.testing.assert_allclose(turned, 1 - plain, atol=1e-6)


def test_frames_and_what_each_has_of_its_own(tmp_path):
    frames = np.stack([ramp('uint16', 0, 100 * n) for n in (1, 2, 3)])
    own = []
    for slope in (1, 2, 3):
        values, window, group = Dataset(), Dataset(), Dataset()
        values.RescaleSlope, values.RescaleIntercept = slope, -10
        window.WindowCenter, window.WindowWidth = 50 * slope, 20
        group.PixelValueTransformationSequence = Sequence([values])
        group.FrameVOILUTSequence = Sequence([window])
        own.append(group)
    path = write_dicom(tmp_path / 'many.dcm', frames,
                       PerFrameFunctionalGroupsSequence=Sequence(own))
    for index, frame in enumerate(frames):
        expected = frame * (index + 1.) - 10
        name = f'{path}#frame={index}'
        np.testing.assert_array_equal(read_image(name)[..., 0], expected)
        np.testing.assert_allclose(
            read_image(name, 'header')[..., 0],
            np.vectorize(naive_window)(expected, 50 * (index + 1), 20),
            atol=1e-6)
    dataset = TileFolder(str(tmp_path), pipeline=[
        dict(type='mmmedmask.LoadTile', in_channels=1, dtype='float32')])
    assert [dataset[index]['img'].max() for index in range(3)] == [
        90., 390., 890.]


def test_colours(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    path = write_dicom(tmp_path / 'us.dcm', colours)
    np.testing.assert_array_equal(read_image(path), colours)
    with pytest.raises(ImageFileError, match='three channels'):
        read_image(path, (40, 400))


def test_a_real_slide_in_dicom(data_root):
    """Two levels that OpenSlide's authors made, one with JPEG inside."""
    for number, side in ((0, 64), (1, 16)):
        path = data_root / f'wsi/openslide-python/boxes_{number}.dcm'
        tile = read_image(path)
        assert tile.shape == (side, side, 3)
        assert tile.dtype == np.uint8
        assert tile.std() > 5
        np.testing.assert_array_equal(read_image(f'{path}#frame=0'), tile)


BODY = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)  # x, y, z


def write_nifti(path, order=(0, 1, 2), flips=(1, 1, 1), body=BODY,
                forget=False, **changes):
    """Write the body with its voxels in another order; the affine says so."""
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for voxel, (axis, flip) in enumerate(zip(order, flips, strict=True)):
        affine[axis, voxel] = 2.5 * flip
    voxels = body.transpose(*order, *range(3, body.ndim))
    voxels = voxels[tuple(slice(None, None, flip) for flip in flips)]
    image = nibabel.Nifti1Image(voxels, affine)
    for name, value in changes.items():
        image.header[name] = value
    nibabel.save(image, path)
    if forget:
        # qform_code and sform_code, which say that there is an affine.
        content = path.read_bytes()
        path.write_bytes(content[:252] + bytes(4) + content[256:])
    return path


def naive_slice(axis, index):
    """As a radiologist sees it, voxel by voxel of a body in x, y, z."""
    x, y, z = BODY.shape
    if axis == 'axial':
        return [[BODY[x - 1 - j, y - 1 - i, index] for j in range(x)]
                for i in range(y)]
    if axis == 'coronal':
        return [[BODY[x - 1 - j, index, z - 1 - i] for j in range(x)]
                for i in range(z)]
    return [[BODY[index, y - 1 - j, z - 1 - i] for j in range(y)]
            for i in range(z)]


@pytest.mark.parametrize('order', list(itertools.permutations(range(3))))
def test_slices_do_not_depend_on_how_a_volume_is_stored(tmp_path, order):
    for flips in itertools.product((1, -1), repeat=3):
        path = write_nifti(tmp_path / 'a.nii.gz', order, flips)
        for axis, count in zip(AXES, BODY.shape, strict=True):
            for index in range(count):
                np.testing.assert_array_equal(
                    read_image(f'{path}#{axis}={index}')[..., 0],
                    naive_slice(axis, index))


def test_types_scale_channels_and_window_of_volumes(tmp_path):
    path = write_nifti(tmp_path / 'a.nii', body=BODY.astype(np.uint8))
    assert read_image(f'{path}#axial=0').dtype == np.uint8
    path = write_nifti(tmp_path / 'a.nii', cal_min=10, cal_max=20)
    shown = read_image(f'{path}#axial=2', 'header')[..., 0]
    np.testing.assert_allclose(
        shown, np.clip((np.array(naive_slice('axial', 2)) - 10) / 10, 0, 1),
        atol=1e-6)
    image = nibabel.load(path)
    image.header.set_slope_inter(.5, 3)
    nibabel.save(nibabel.Nifti1Image(BODY * .5 + 3, image.affine,
                                     image.header), path)
    np.testing.assert_allclose(
        read_image(f'{path}#axial=2')[..., 0],
        np.array(naive_slice('axial', 2)) * .5 + 3, rtol=1e-4)
    four = np.stack([BODY, BODY + 100], axis=3)
    path = write_nifti(tmp_path / 'b.nii', (2, 0, 1), (1, -1, 1), four)
    read = read_image(f'{path}#coronal=1')
    np.testing.assert_array_equal(read[..., 0], naive_slice('coronal', 1))
    np.testing.assert_array_equal(read[..., 1] - read[..., 0], 100)


@pytest.mark.parametrize(('make', 'part', 'words'), [
    (lambda p: write_dicom(p, np.stack([ramp()] * 2)), '', '#frame=0 to .*=1'),
    (lambda p: write_dicom(p, ramp()), '#frame=1', r'#frame=0.*got #frame=1'),
    (lambda p: write_dicom(p, ramp()), '#axial=0', 'got #axial=0'),
    (lambda p: write_dicom(p, ramp(), PhotometricInterpretation=(
        'PALETTE COLOR')), '', 'palette'),
    (lambda p: p.write_bytes(write_dicom(p, ramp()).read_bytes()[:-40]), '',
     '.'),
    (write_nifti, '', '#axial=0 to 4'),
    (write_nifti, '#axial=5', 'holds 5 pictures'),
    (lambda p: write_nifti(p, forget=True), '#axial=1', 'sform_code are 0'),
    (lambda p: p.write_bytes(b'\x1f\x8bnot zipped'), '#axial=1', '.'),
    (lambda p: p.write_bytes(bytes(400)), '', 'DICOM or NIfTI'),
])
def test_errors_name_file_and_reason(tmp_path, make, part, words):
    path = tmp_path / 'bad.nii'
    make(path)
    with pytest.raises(ImageFileError, match=words) as error:
        read_image(f'{path}{part}')
    assert str(path) in str(error.value)


def test_windows_of_tiles(tmp_path):
    values = ramp('int16', -1000, 1000)
    path = write_dicom(tmp_path / 'ct.dcm', values)
    with pytest.raises(ImageFileError, match='has no window'):
        LoadTile(in_channels=1, window='header')(dict(img_path=path))
    expected = np.vectorize(naive_window)(values, 40, 400)
    for dtype, largest in (('uint8', 255), ('uint16', 65535), ('float32', 1)):
        load = LoadTile(in_channels=1, dtype=dtype, window=(40, 400))
        tile = load(dict(img_path=path))['img']
        assert tile.dtype == dtype
        np.testing.assert_allclose(
            tile[..., 0], expected * largest, atol=.5 if largest > 1 else 1e-6)
    with pytest.raises(ImageFileError, match=r'float32, .*window=\.\.\.'):
        LoadTile(in_channels=1)(dict(img_path=path))
    for window in ('soft', (40, ), (40, 0)):
        with pytest.raises(ValueError, match='window'):
            LoadTile(window=window)


def test_folders_of_volumes(tmp_path):
    write_nifti(tmp_path / 'a.nii.gz')
    write_dicom(tmp_path / 'b.dcm', ramp())
    for axis, count in zip(AXES, BODY.shape, strict=True):
        dataset = TileFolder(str(tmp_path), axis=axis)
        assert len(dataset) == count + 1
        assert dataset.get_data_info(count - 1)['img_path'].endswith(
            f'a.nii.gz#{axis}={count - 1}')
    with pytest.raises(ValueError, match="axis .*'oblique'"):
        TileFolder(str(tmp_path), axis='oblique')
    (tmp_path / 'c.dcm').write_bytes(b'nothing')
    with pytest.raises(ValueError, match=r'c\.dcm'):
        TileFolder(str(tmp_path))
    dataset = TileFolder(str(tmp_path), on_error='skip', pipeline=[
        dict(type='mmmedmask.LoadTile', in_channels=1, dtype='float32')])
    assert dataset[-1]['img_path'].endswith('a.nii.gz#axial=0')
    assert dataset.skipped_paths() == [str(tmp_path / 'c.dcm')]


def test_labelled_images_and_probes_take_slices(tmp_path):
    write_nifti(tmp_path / 'a.nii', body=BODY.astype(np.uint8))
    (tmp_path / 'classes.txt').write_text('low\nhigh\n')
    (tmp_path / 'splits/mine').mkdir(parents=True)
    for part, first in (('train', 0), ('val', 2)):
        (tmp_path / f'splits/mine/{part}.csv').write_text(
            f'path,label,group\na.nii#axial={first},low,{part}\n'
            f'a.nii#axial={first + 1},high,{part}\n')
    arguments = dict(data_root=str(tmp_path), split_folder='splits/mine')
    dataset = LabelledImages(**arguments, pipeline=[
        dict(type='mmmedmask.LoadTile', in_channels=1)])
    np.testing.assert_array_equal(
        dataset[1]['img'][..., 0], naive_slice('axial', 1))
    train, _ = read_probe_sets(tmp_path)
    assert load_image(train.paths[1]).shape == (3, 4, 3)
    (tmp_path / 'a.nii').unlink()
    with pytest.raises(FileNotFoundError, match=r'1 files .* .*a\.nii$'):
        LabelledImages(**arguments)


def test_inferencers_take_scans(tmp_path):
    write_nifti(tmp_path / 'a.nii.gz')
    write_dicom(tmp_path / 'b.dcm', np.stack([ramp()] * 2))
    volume, frames = tmp_path / 'a.nii.gz', tmp_path / 'b.dcm'
    assert list(map(str, list_inputs(tmp_path))) == [
        *(f'{volume}#axial={n}' for n in range(5)),
        *(f'{frames}#frame={n}' for n in range(2))]
    one = f'{volume}#coronal=1'
    assert list(map(str, list_inputs(one))) == [one]
    assert picture_of(list_inputs(one)[0]).shape == (5, 3, 3)
    with pytest.raises(FileNotFoundError, match='c.dcm'):
        list_inputs(f'{tmp_path}/c.dcm#frame=0')


def test_your_own_dicom_by_patient(tmp_path):
    random = np.random.default_rng(0)
    for patient in range(10):
        label = ('healthy', 'ill')[patient % 2]
        for index in range(3):
            header = dict(PatientID=f'P{patient}') if patient else dict(
                StudyInstanceUID='1.2.3')
            write_dicom(
                tmp_path / f'source/{label}/s{patient}/{index}.dcm',
                random.integers(-1000, 1000, (24, 24), np.int16), **header)
    call('dataset_converters/convert.py', 'dicom', tmp_path / 'source',
         tmp_path / 'out', '--check')
    groups = []
    for part in ('train', 'val'):
        dataset = LabelledImages(
            str(tmp_path / 'out'), part, 'splits/patient', pipeline=[
                dict(type='mmmedmask.LoadTile', in_channels=1,
                     window=(0, 500))])
        assert dataset[0]['img'].dtype == np.uint8
        groups.append({sample['group'] for sample in dataset})
    assert len(groups[1]) == 2
    assert not groups[0] & groups[1]
    assert groups[0] | groups[1] == {'1.2.3'} | {f'P{n}' for n in range(1, 10)}


def test_copies_join_patients_of_one_image_each(tmp_path):
    random = np.random.default_rng(0)
    for number in range(8):
        pixels = random.integers(0, 4096, (64, 64), np.uint16)
        for patient in (number, number + 10):
            write_dicom(tmp_path / f'in/{"ab"[number % 2]}/{patient}.dcm',
                        pixels, PatientID=f'P{patient:02d}')
    source = dicom_source(tmp_path / 'in')
    conversion = prepare(source, tmp_path / 'in', tmp_path / 'out')
    assert 'P00, P10; P01, P11' in conversion.notices[-1]
    assert len({image.group for image in conversion.images}) == 8
    conversion.write(tmp_path / 'out')
    assert conversion.check(tmp_path / 'out').problems == []


def test_dicom_that_cannot_be_split(tmp_path):
    for label in 'ab':
        write_dicom(tmp_path / f'in/{label}/1.dcm', ramp(), PatientID='P')
    output = call('dataset_converters/convert.py', 'dicom', tmp_path / 'in',
                  tmp_path / 'out', status=1)
    assert "at least two patients" in output
    cut = write_dicom(tmp_path / 'in/b/2.dcm', ramp(), PatientID='p')
    output = call('dataset_converters/convert.py', 'dicom', tmp_path / 'in',
                  tmp_path / 'out', status=1)
    assert "group is 'P' and 'p'" in output
    nobody = write_dicom(tmp_path / 'in/a/2.dcm', ramp())
    cut.write_bytes(cut.read_bytes()[:-40])
    headless = tmp_path / 'in/a/3.dcm'
    headless.write_bytes(b'nothing')
    output = call('dataset_converters/convert.py', 'dicom', tmp_path / 'in',
                  tmp_path / 'out', status=1)
    assert f'{nobody} has neither a PatientID' in output
    assert f'Cannot read the header of {headless}' in output
    assert f'Cannot read image {cut}' in output
    assert 'nothing was written' in output
