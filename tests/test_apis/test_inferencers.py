"""Models by name, and inferencers against the models they run."""

import shutil
from functools import partial
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pydicom
import pytest
import tifffile
import torch
from mmengine.config import Config
from mmpretrain import ImageClassificationInferencer
from mmpretrain import list_models as list_all
from PIL import Image
from shipped_configs import load
from slide_omic_files import draw_bag
from torch.nn import DataParallel

from mmmedmask import apis
from mmmedmask.apis.encoder_weights import build_tile_encoder
from mmmedmask.apis.inferencers import (
    describe,
    draw_error,
    list_inputs,
    main_directions,
)
from mmmedmask.apis.models import build_model
from mmmedmask.apis.slide_extraction import extract_slides
from mmmedmask.apis.slide_inferencer import SlideInferencer
from mmmedmask.datasets import SlideOmicDataset
from mmmedmask.datasets.image_io import ImageFileError, read_image
from mmmedmask.datasets.slides.feature_files import SlideFeatureError
from mmmedmask.datasets.slides.slide_list import list_slides
from mmmedmask.datasets.slides.tile_stream import TilingOptions
from mmmedmask.phantoms.slide_files import FEATURE_LAYOUTS, write_features
from mmmedmask.phantoms.whole_slides import draw_slide, write_slide
from mmmedmask.registry import MODELS
from mmmedmask.shrinking.shrink import shrink_config
from mmmedmask.visualization.pictures import picture_of

CLASSIFIER = 'vit-base-p16_msmae_1xb256-100e_brain-tumor-mri'
DETECTOR = 'mask-rcnn_cmim-resnet18-fpn_8xb2-1x_crag'
SUPERVISED = 'supervised_resnet18_8xb32-steplr-100e_nct'


@pytest.fixture(scope='module')
def shrunk(tmp_path_factory):
    folder = tmp_path_factory.mktemp('inferencers')

    def get(name):
        torch.manual_seed(0)
        return apis.get_model(shrink_config(load(name), folder / name,
                                            folder / 'data'))

    return get


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Three pictures of three sizes, no channel like another."""
    folder = tmp_path_factory.mktemp('pictures')
    random = np.random.default_rng(0)
    for number, size in enumerate([(70, 90), (96, 96), (120, 64)]):
        pixels = random.integers(0, 256, (*size, 3)) // [1, 2, 4]
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f'{number}.png')
    return folder


def test_names():
    names = apis.list_models('cmim')
    assert names == apis.list_models(
        'cmim*') == apis.EmbeddingInferencer.list_models('cmim*')
    assert 'cmim_resnet18_8xb32-coslr-800e_nct' in names
    assert all(name.startswith('cmim') for name in names)
    assert len(apis.list_models()) > 100
    with pytest.raises(FileNotFoundError,
                       match='neither.*cmim_resnet18_8xb32-coslr-800e_nct'):
        apis.get_model('cmim_resnet18_8xb32-coslr-800_nct')


def test_mmpretrain_knows_the_names_too():
    assert set(apis.list_models()) <= set(list_all())
    assert 'resnet50_8xb32_in1k' in list_all()
    assert list_all('transmil') == apis.list_models('transmil')


def test_model_by_name_and_checkpoint(tmp_path):
    model = apis.get_model('abmil_1xb8-coslr-70e_tcga-nsclc')
    file = tmp_path / 'model.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict(
        dataset_meta=dict(classes=('LUAD', 'LUSC')))), file)
    again = apis.get_model('abmil_1xb8-coslr-70e_tcga-nsclc', str(file))
    assert not again.training
    assert again._dataset_meta['classes'] == ('LUAD', 'LUSC')
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    with pytest.raises(ValueError, match=r'model\.pth does not fit'):
        apis.get_model('transmil_1xb8-coslr-70e_tcga-nsclc', str(file))


@pytest.mark.parametrize('name', [
    'msmae_vit-base-p16_1xb64-coslr-300e_busi', CLASSIFIER])
def test_an_untrained_model_is_that_which_a_run_starts_from(name, tmp_path):
    """Drawn by the whole model, and by nothing but the seed."""
    config = shrink_config(load(name), tmp_path, tmp_path / 'data')
    torch.manual_seed(1)
    model = apis.untrained_model(config, 0)
    assert not model.training
    torch.manual_seed(0)
    start = MODELS.build(config.model)
    start.init_weights()
    expected = start.state_dict()
    assert model.state_dict().keys() == expected.keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name])
    other = apis.untrained_model(config, 1).state_dict()
    assert any(not torch.equal(value, other[name])
               for name, value in expected.items())


def test_models_of_others_than_get_model(shrunk):
    model = shrunk(CLASSIFIER)
    config = model._config
    assert apis.ClassificationInferencer(DataParallel(model)).model is model
    del model._config
    for given in (model, DataParallel(model)):
        with pytest.raises(ValueError, match=r'^MSMAE.*set model\._config'):
            apis.ClassificationInferencer(given)
    # As mmdet and mmseg keep it.
    model.cfg = config
    assert apis.ClassificationInferencer(model).config is config
    assert apis.ClassificationInferencer(build_model(config)).config is config


def test_a_model_stays_on_its_device(shrunk):
    model = shrunk(CLASSIFIER).to('meta')
    model = apis.ClassificationInferencer(model).model
    assert next(model.parameters()).is_meta
    model = apis.ClassificationInferencer(shrunk(CLASSIFIER), None, 'meta')
    assert next(model.model.parameters()).is_meta


def test_weights_and_scores_that_are_no_numbers_are_refused(
        shrunk, tmp_path):
    model = shrunk(CLASSIFIER)
    tensors = model.state_dict()
    name = 'backbone.cls_token'
    tensors[name] = torch.full_like(tensors[name], torch.nan)
    torch.save(tensors, tmp_path / 'diverged.pth')
    with pytest.raises(ValueError, match=f'not finite: {name}. The run had'):
        apis.get_model(model._config, str(tmp_path / 'diverged.pth'))
    with pytest.raises(ValueError, match=r'scores \[nan, 1.0\]: its input'):
        apis.ClassificationInferencer(model).decide(np.array([np.nan, 1]))


def test_what_can_be_given(files):
    paths = [files / f'{number}.png' for number in range(3)]
    assert list_inputs(files) == list_inputs(list(map(str, paths))) == paths
    picture = Image.open(paths[0])
    array, = list_inputs(picture)
    assert np.array_equal(array, np.asarray(picture))
    assert list_inputs([files, array])[3] is array
    assert list_inputs(picture.convert('L'))[0].shape == (70, 90, 1)
    for wrong, error, message in (
            ('none.png', FileNotFoundError, 'none.png'),
            ([], ValueError, 'list is empty'),
            (torch.zeros(2, 3, 4, 5), ValueError, 'Tensor of shape.*2, 3, 4')):
        with pytest.raises(error, match=message):
            list_inputs(wrong)


def with_transparent(picture, colour):
    picture = picture.copy()
    picture.info['transparency'] = colour
    return picture


def pil_pictures():
    """A picture of each mode that is not refused, and of each transparency."""
    random = np.random.default_rng(0)
    rgba = Image.fromarray(random.integers(0, 256, (6, 7, 4), np.uint8))
    rgb, deep = rgba.convert('RGB'), random.integers(0, 1 << 16, (6, 7))
    gray, few, bit = rgb.convert('L'), rgb.quantize(16), rgb.convert('1')
    return {
        'gray': gray, 'bit': bit, 'gray alpha': rgba.convert('LA'),
        'RGB': rgb, 'RGBA': rgba, 'palette': few, 'two': rgb.quantize(2),
        'gray palette': gray.convert('P'), 'palette RGBA': rgba.quantize(16),
        'palette index': with_transparent(few, 3),
        'palette bytes': with_transparent(few, bytes([0, 50, 255])),
        'gray colour': with_transparent(gray, gray.getpixel((0, 0))),
        'RGB colour': with_transparent(rgb, rgb.getpixel((0, 0))),
        'bit colour': with_transparent(bit, 0),
        'deep': Image.fromarray(deep.astype(np.uint16)),
        'float': Image.fromarray(deep.astype(np.float32) / 7)}


@pytest.mark.filterwarnings('ignore:Palette images with Transparency')
@pytest.mark.parametrize('name', pil_pictures())
def test_a_picture_of_pil_is_read_as_its_file(name, tmp_path):
    picture = pil_pictures()[name]
    file = tmp_path / ('a.tif' if name == 'float' else 'a.png')
    picture.save(file)
    read = read_image(file)
    for given in (picture, Image.open(file)):
        array, = list_inputs(given)
        assert array.dtype == read.dtype
        np.testing.assert_array_equal(array, read)


def test_pictures_of_pil_that_no_png_holds(tmp_path):
    tifffile.imwrite(tmp_path / 'a.tif', np.arange(6, dtype='>u2').reshape(
        2, 3) * 1000, byteorder='>')
    picture = Image.open(tmp_path / 'a.tif')
    assert picture.mode == 'I;16B'
    array, = list_inputs(picture)
    assert array.dtype == np.uint16
    np.testing.assert_array_equal(array, read_image(tmp_path / 'a.tif'))
    palette = pil_pictures()['palette'].convert('PA')
    palette.putalpha(7)
    array, = list_inputs(palette)
    np.testing.assert_array_equal(
        array[..., :3], list_inputs(pil_pictures()['palette'])[0])
    assert (array[..., 3] == 7).all()


def test_pictures_are_taken_upright_or_refused():
    lying = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    lying.getexif()[274] = 6
    assert np.array_equal(list_inputs(lying)[0][..., 0],
                          [[3, 0], [4, 1], [5, 2]])
    for wrong, message in (
            (Image.new('I', (2, 2)), "one of the modes .*'RGB'.*, got 'I'"),
            (Image.new('CMYK', (2, 2)), "got 'CMYK', which"),
            (Image.new('RGBa', (2, 2)), "got 'RGBa', which"),
            (with_transparent(Image.new('I;16', (2, 2)), 0),
             "got 'I;16' with a transparent colour"),
            (np.zeros((0, 5, 3), np.uint8), r'pixel.* \(0, 5, 3\)')):
        with pytest.raises(ValueError, match=message):
            list_inputs(wrong)


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_pictures_of_gray_and_colours_with_alpha_or_without(channels):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)[..., :channels]
    shown = pixels[..., [0, 1, 2] if channels > 2 else [0, 0, 0]]
    assert np.array_equal(picture_of(pixels), shown)


def test_classes_equal_mmpretrains(shrunk, files):
    """By path, as arrays in RGB, one at a time and in batches."""
    model = shrunk(CLASSIFIER)
    infer = apis.ClassificationInferencer(model)
    results = infer(files, batch_size=2)
    assert [result['input'] for result in results] == [
        str(files / f'{number}.png') for number in range(3)]
    theirs = ImageClassificationInferencer(model)(
        [str(files / f'{number}.png') for number in range(3)])
    arrays = infer([np.asarray(Image.open(files / f'{number}.png'))
                    for number in range(3)])
    for ours, other, array in zip(results, theirs, arrays, strict=True):
        np.testing.assert_allclose(
            ours['scores'], other['pred_scores'], rtol=1e-4)
        np.testing.assert_allclose(ours['scores'], array['scores'], rtol=1e-4)
        assert ours['scores'].sum() == pytest.approx(1, abs=1e-5)
        assert ours['label'] == ours['scores'].argmax()
        assert array['input'] is None
    # Red and blue are not exchanged: that would give something else.
    swapped, = infer(np.asarray(Image.open(files / '0.png'))[..., ::-1])
    assert abs(swapped['scores'] - results[0]['scores']).max() > 1e-4
    pictures = infer.visualize(files, results)
    with pytest.raises(ValueError, match='3 images .* got 2'):
        infer.visualize(files, results[:2])
    assert len(pictures) == 3
    assert all(picture.dtype == np.uint8 for picture in pictures)


def test_embeddings(shrunk, files):
    model = shrunk('cmim_resnet18_8xb32-coslr-800e_nct')
    infer = apis.EmbeddingInferencer(model)
    results = infer(files / '1.png', maps=True)
    pixels = torch.tensor(np.array(Image.open(files / '1.png')))
    mean, std = (getattr(model.data_preprocessor, name).flatten()
                 for name in ('mean', 'std'))
    images = ((pixels - mean) / std).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        found = [level.mean(dim=(2, 3)) for level in model.backbone(images)]
    # The finest stages first, and the last one is the backbone's output.
    last = found[-1][0]
    np.testing.assert_allclose(
        results[0]['embedding'][-len(last):], last, atol=1e-5)
    assert len(results[0]['maps']) == 4
    picture, = infer.visualize(files / '1.png', results)
    # Those of many files would fill the memory.
    alone, = infer(files / '1.png')
    assert set(alone) == {'input', 'embedding', 'error'}
    np.testing.assert_array_equal(alone['embedding'], results[0]['embedding'])
    again, = infer.visualize(files / '1.png', [alone])
    np.testing.assert_array_equal(again, picture)


@pytest.mark.parametrize(('kind', 'name'), [
    (apis.ClassificationInferencer, SUPERVISED),
    (apis.ClassificationInferencer, CLASSIFIER),
    (apis.EmbeddingInferencer, SUPERVISED),
    (apis.EmbeddingInferencer, 'cmim_resnet18_8xb32-coslr-800e_nct'),
    (apis.EmbeddingInferencer, 'mae_vit-small-p16_8xb32-coslr-800e_nct'),
    (apis.EmbeddingInferencer, 'spark_sparse-resnet18_8xb32-coslr-800e_nct'),
    (apis.EmbeddingInferencer, 'beitv2_vit-small-p16_8xb32-coslr-800e_nct'),
    (apis.EmbeddingInferencer, DETECTOR),
    (apis.EmbeddingInferencer, 'setr-pup_msmae-vit-base-p16_1xb8-200e_busi'),
    (apis.ReconstructionInferencer, 'cmim_resnet18_8xb32-coslr-800e_nct'),
    (apis.AttentionInferencer,
     'msmae_vit-base-p16_1xb64-coslr-300e_brain-tumor-mri')])
def test_no_image_depends_on_the_others_of_a_call(kind, name, shrunk, files):
    """They are of three sizes. Views are drawn by a place, which stays."""
    model = shrunk(name)
    if name == SUPERVISED:
        steps = model._config.test_dataloader.dataset.pipeline
        steps[:] = [step for step in steps if 'Resize' not in step.type]
    infer = kind(model)
    if kind is apis.EmbeddingInferencer:
        infer = partial(infer, maps=True)
    together = infer(files)
    for place in range(3):
        file = files / f'{place}.png'
        apart = infer([file] * 3)[place]
        assert apart['input'] == together[place]['input'] == str(file)
        for key in set(apart) - {'input', 'class', 'error'}:
            value, found = apart[key], together[place][key]
            for one, other in zip(value, found, strict=True) if isinstance(
                    value, list) else [(value, found)]:
                # A reconstruction is rounded to whole steps of 255.
                step = 1 if np.asarray(one).dtype == np.uint8 else 1e-5
                np.testing.assert_allclose(
                    one, other, rtol=1e-3, atol=step, err_msg=key)


def test_maps_of_a_detector_show_the_image_without_its_padding(shrunk, files):
    infer = apis.EmbeddingInferencer(shrunk(DETECTOR))
    result, = infer(files / '0.png', maps=True)
    sides = infer.pipeline()(describe(files / '0.png', 0))['inputs'].shape[1:]
    assert any(side % 32 for side in sides)
    for level, stride in zip(result['maps'], (4, 8, 16, 32), strict=True):
        assert level.shape[1:] == tuple(-(-side // stride) for side in sides)
    np.testing.assert_allclose(result['embedding'], np.concatenate(
        [level.mean(axis=(1, 2)) for level in result['maps']]), rtol=1e-4)


@pytest.mark.parametrize(('kind', 'name'), [
    (apis.ClassificationInferencer, CLASSIFIER),
    (apis.EmbeddingInferencer, 'cmim_resnet18_8xb32-coslr-800e_nct')])
def test_a_broken_file_stops_no_other(kind, name, shrunk, files, tmp_path):
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    broken = tmp_path / '00.png'
    broken.write_bytes((files / '0.png').read_bytes()[:500])
    (tmp_path / 'c.dcm').write_bytes(b'no DICOM')
    infer = kind(shrunk(name))
    messages = []
    with mock.patch('mmmedmask.apis.inferencers.print_log',
                    lambda message, *_: messages.append(message)):
        results = infer(tmp_path, batch_size=2)
        assert infer(files)[0]['error'] == ''
    message, = messages
    assert message.startswith('2 of 5 images cannot be used, the first: ')
    assert [Path(result['input']).name for result in results] == [
        '0.png', '00.png', '1.png', '2.png', 'c.dcm']
    failed = [results.pop(place) for place in (4, 1)]
    for result in failed:
        assert result.pop('input') in result.pop('error')
        assert set(result.values()) == {None}
        assert {*result, 'input', 'error'} == {*results[0]}
    key = 'scores' if 'scores' in results[0] else 'embedding'
    for result, whole in zip(results, infer(files), strict=True):
        assert result['error'] == ''
        np.testing.assert_allclose(result[key], whole[key], atol=1e-5)
    results = infer([broken, files / '1.png'])
    pictures = infer.visualize([broken, files / '1.png'], results)
    assert np.array_equal(pictures[0],
                          draw_error(broken, results[0]['error']))
    # Nothing else is left, or it is no file.
    with pytest.raises(ImageFileError, match=r'^Cannot read .*00\.png: '):
        infer(broken)
    with pytest.raises(ImageFileError, match='2 of 2 images cannot be used'):
        infer([broken, broken])
    with pytest.raises(ImageFileError, match='float64'):
        infer([files / '1.png', np.zeros((9, 9, 3))])


def test_main_directions_separate_halves():
    features = np.random.default_rng(0).normal(size=(8, 4, 6)) * .01
    features[3, :, 3:] += 5
    picture = main_directions(features, (8, 12))
    red = picture[..., 0].astype(int)
    assert abs(red[:, :6].mean() - red[:, 6:].mean()) > 200


@pytest.mark.parametrize('shape', [(8, 1, 1), (8, 1, 2), (2, 3, 3)])
def test_maps_of_less_than_three_directions_are_shown(shape):
    picture = main_directions(np.random.default_rng(0).normal(size=shape),
                              (6, 6))
    assert picture.shape == (6, 6, 3)
    assert not picture[..., 2].any()
    assert picture.any() == (shape[2] > 1)


def test_reconstructions(shrunk, files, tmp_path):
    infer = apis.ReconstructionInferencer(
        shrunk('cmim_resnet18_8xb32-coslr-800e_nct'))
    results = infer(files, batch_size=3)
    for result in results:
        shapes = {result[name].shape for name in (
            'query', 'key', 'reconstruction')}
        assert shapes == {(*result['weight'].shape, 3)}
        assert set(np.unique(result['weight'])) <= {0, 1}
    assert len(infer.visualize(files, results)) == 3
    # A file that cannot be used has an empty row.
    (tmp_path / 'broken.png').write_bytes(b'no picture')
    both = [tmp_path / 'broken.png', files / '0.png']
    mixed = infer(both)
    panel, alone = infer.panel(mixed, 'Both'), infer.panel(mixed[1:], 'One')
    assert mixed[0]['query'] is None
    assert panel.shape[0] > alone.shape[0] * 1.3
    assert panel.shape[1] == alone.shape[1]
    # Pictures of many files would fill the memory.
    written = infer(both, out_dir=tmp_path / 'out')
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['1_0.png']
    assert {*written[1]} == {'input', 'mask', 'drawing', 'error'}
    with pytest.raises(ValueError, match='call without out_dir'):
        infer.panel(written)
    for one, other in zip(infer.visualize(both, mixed), infer.visualize(
            both, written), strict=True):
        np.testing.assert_array_equal(one, other)
    for unusable in (mixed[:1], []):
        with pytest.raises(ValueError, match='a result without an error'):
            infer.panel(unusable)
    with pytest.raises(ValueError, match='reconstruct and head.to_pixels'):
        apis.ReconstructionInferencer(shrunk(CLASSIFIER))


def test_attention(shrunk, files):
    model = shrunk('msmae_vit-base-p16_1xb64-coslr-300e_brain-tumor-mri')
    infer = apis.AttentionInferencer(model)
    with pytest.raises(ValueError, match=r'visualize_attention\.py'):
        apis.ReconstructionInferencer(model)
    results = infer(files, progress=True)
    for result in results:
        assert result['attention'].ndim == 2
        assert result['attention'].sum() == pytest.approx(1, abs=1e-5)
        assert result['picture'].dtype == np.uint8
    assert len(infer.visualize(files, results)) == 3
    written = infer(files, out_dir=str(files.parent / 'drawn'))
    assert {*written[0]} == {'input', 'attention', 'drawing', 'error'}
    np.testing.assert_array_equal(
        read_image(written[2]['drawing']), infer.draw(None, results[2]))


@pytest.fixture
def slide_model():
    torch.manual_seed(0)
    return apis.get_model(Config(dict(model=dict(
        type='mmmedmask.SlideOmicClassifier',
        aggregator=dict(type='mmmedmask.ABMIL', in_dims=256, embed_dims=8),
        head=dict(type='mmmedmask.SlideOmicHead', num_classes=2),
        data_preprocessor=dict(type='mmmedmask.SlideOmicDataPreprocessor')))))


def test_slides(slide_model, tmp_path):
    patches = torch.randn(6, 256)
    with h5py.File(tmp_path / 'slide.h5', 'w') as file:
        file['features'] = patches.numpy()
        coords = file.create_dataset('coords', data=np.array(
            [[x * 32, y * 32] for y in range(2) for x in range(3)]))
        coords.attrs['patch_size'] = 32
    infer = SlideInferencer(slide_model)
    result, = infer(tmp_path / 'slide.h5')
    assert result['attention'].shape == (1, 6)
    assert result['attention'].sum() == pytest.approx(1, abs=1e-5)
    assert result['coords'].shape == (6, 2)
    prepared = slide_model.data_preprocessor(dict(inputs=dict(
        patches=[patches], coords=[None], genes=[None]), data_samples=None))
    with torch.inference_mode():
        sample, = slide_model.predict(prepared['inputs'])
    np.testing.assert_allclose(result['scores'], sample.pred_score, atol=1e-5)
    picture, = infer.visualize(tmp_path / 'slide.h5', [result])
    assert picture.ndim == 3
    with pytest.raises(ValueError, match='encoder'):
        infer(__file__)


def test_slides_without_the_genes_of_their_models(tmp_path):
    write_features(tmp_path / 'a.h5', 'clam-h5',
                   *draw_bag(9, 1024, patch_size=64), patch_size=64)
    name = 'gimp_scratch_snn-nystrom_1xb8-coslr-70e-finetune_tcga-nsclc'
    infer = SlideInferencer(name)
    result, = infer(tmp_path / 'a.h5')
    assert result['note'] == 'without genes'
    assert infer.visualize(tmp_path, [result])[0].ndim == 3
    infer = SlideInferencer('mcat_1xb8-coslr-70e_tcga-nsclc')
    with pytest.raises(ValueError, match='^MCAT looks .* genes, which files'):
        infer(tmp_path / 'a.h5')


@pytest.mark.parametrize('layout', FEATURE_LAYOUTS)
def test_coordinates_are_those_of_the_data_set(slide_model, tmp_path, layout):
    path = write_features(
        tmp_path / 'a.h5', layout, *draw_bag(9, 256, patch_size=448),
        patch_size=448, mpp=.25)
    for mpp in (None, .25):
        (tmp_path / 'cohort.csv').write_text(
            'case_id,slide_id,label,split,mpp,features_path\n'
            f'p,a,x,test,{mpp or ""},a.h5\n')
        dataset = SlideOmicDataset(
            'cohort.csv', str(tmp_path), 'test', modalities=['slides'],
            metainfo=dict(classes=['x']), test_mode=True, pipeline=[
                dict(type='mmmedmask.LoadSlideFeatures'),
                dict(type='mmmedmask.PackSlideOmicInputs')])
        infer = SlideInferencer(slide_model, slide_mpp=mpp)
        result, = infer(path)
        if layout in ('clam-pt', 'npy'):
            assert result['coords'] is None
            continue
        np.testing.assert_array_equal(
            result['coords'], dataset[0]['inputs']['coords'])
        if mpp is None and layout == 'stamp-h5':
            with pytest.raises(ValueError, match='the slide, slide_mpp$'):
                infer.visualize(path, [result])
        else:
            picture, = infer.visualize(path, [result])
            assert picture.ndim == 3


def test_a_slide_itself(slide_model, tmp_path):
    """Features are made on the way, and equal to what a tool would write."""
    random = np.random.default_rng(0)
    tissue = np.full((512, 512, 3), 245, np.uint8)
    tissue[:, :256] = [170, 60, 120] + random.integers(-30, 30, (512, 256, 3))
    Image.fromarray(tissue).save(tmp_path / 'slide.png')
    encoder = build_tile_encoder('resnet18-block3', random_seed=0)
    infer = SlideInferencer(slide_model, encoder=encoder, slide_mpp=0.5)
    result, = infer(tmp_path / 'slide.png')
    assert len(result['coords']) > 0
    assert result['scores'].sum() == pytest.approx(1, abs=1e-5)
    # Its picture is that of the features.
    drawn, = infer.visualize(tmp_path / 'slide.png', [result])
    tasks, _ = list_slides([tmp_path / 'slide.png'], mpp=.5)
    extract_slides(tasks, tmp_path, encoder, infer.tiling)
    features = tmp_path / 'h5_files' / 'slide.h5'
    expected, = infer.visualize(features, infer(features))
    np.testing.assert_array_equal(drawn, expected)
    # Another of the patient, with the same name.
    (tmp_path / 'other').mkdir()
    Image.fromarray(tissue[::-1, :400]).save(tmp_path / 'other' / 'slide.png')
    both = infer([features, tmp_path / 'other' / 'slide.png'],
                 cases=np.array(['p', 'p']))
    alone, = infer(tmp_path / 'other' / 'slide.png')
    np.testing.assert_array_equal(both[1]['coords'], alone['coords'])
    assert sum(part['attention'].sum() for part in both) == pytest.approx(1)
    assert both[1]['attention'].sum() < .9
    np.testing.assert_array_equal(both[0]['scores'], both[1]['scores'])


def write_dicom_slide(path, pixels, side):
    """Write a slide of 0.5 µm per pixel with a frame per tile."""
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = \
        pydicom.uid.VLWholeSlideMicroscopyImageStorage
    data.SeriesInstanceUID = pydicom.uid.generate_uid()
    data.ImageType = ['ORIGINAL', 'PRIMARY', 'VOLUME', 'NONE']
    data.DimensionOrganizationType = 'TILED_FULL'
    height, width = pixels.shape[:2]
    data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns = height, width
    data.set_pixel_data(np.stack([
        pixels[y:y + side, x:x + side] for y in range(0, height, side)
        for x in range(0, width, side)]), 'RGB', 8)
    shared, measures = pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing = [.0005, .0005]
    shared.PixelMeasuresSequence = [measures]
    data.SharedFunctionalGroupsSequence = [shared]
    data.save_as(path, enforce_file_format=True)


def test_slides_are_listed_as_for_their_features(slide_model, tmp_path):
    """Those of DICOM hold a frame per tile, MIRAX files beside the slide."""
    pixels = draw_slide((128, 128), [(0, 0, 128, 128)])
    write_dicom_slide(tmp_path / 'b.dcm', pixels, 64)
    write_slide(tmp_path / 'a' / 'a.tif', pixels, mpp=.5)
    (tmp_path / 'a' / 'Data0000.dat').write_bytes(b'of another slide')
    infer = SlideInferencer(
        slide_model, tiling=TilingOptions(tile_size=32, mpp=.5),
        encoder=build_tile_encoder('resnet18-block3', random_seed=0))
    one, other = infer([tmp_path, tmp_path / 'a', tmp_path / 'b.dcm'])[1:]
    assert other['input'] == str(tmp_path / 'b.dcm')
    assert len(other['coords']) == 16
    np.testing.assert_array_equal(one['coords'], other['coords'])
    np.testing.assert_allclose(one['scores'], other['scores'], atol=1e-6)
    (tmp_path / 'a' / 'a.tif').unlink()
    with pytest.raises(ValueError, match=r"ends with .*'\.h5'.*be named"):
        infer(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'c\.svs does not exist'):
        infer(tmp_path / 'c.svs')


def test_a_slide_in_both_of_clams_folders_counts_once(slide_model, tmp_path):
    root, bag = tmp_path / 'clam', draw_bag(9, 256, patch_size=64)
    pair = [write_features(root / name, layout, *bag, patch_size=64)
            for name, layout in (('h5_files/a.svs.h5', 'clam-h5'),
                                 ('pt_files/a.pt', 'clam-pt'))]
    alone = write_features(root / 'pt_files/b.pt', 'clam-pt', *bag,
                           patch_size=64)
    infer = SlideInferencer(slide_model)
    with mock.patch('mmmedmask.apis.slide_inferencer.print_log') as log:
        results = infer(root, cases=['p', 'q'])
    assert [result['input'] for result in results] == [
        str(pair[0]), str(alone)]
    assert log.call_args.args[0] == (
        '1 files of pt_files are left out, whose slides are in h5_files: '
        f'{pair[1]}')
    assert len(infer.visualize(root / 'h5_files', results[:1])) == 1
    assert len(infer(root / 'pt_files')) == 2
    # Each is asked for, and stands for itself.
    assert len(infer(pair)) == 2
    for twin in (pair[1], root / 'a.svs'):
        with pytest.raises(ValueError, match='are one slide, which would'):
            infer._name_cases([pair[0], twin], ['p', 'p'])


def test_slides_without_patches_do_not_stop_the_others(slide_model, tmp_path):
    for name, count in (('a', 0), ('b', 9)):
        write_features(tmp_path / f'{name}.h5', 'clam-h5',
                       *draw_bag(count, 256, patch_size=64), patch_size=64)
    glass, small = tmp_path / 'glass.png', tmp_path / 'small.png'
    Image.new('RGB', (512, 512), 'white').save(glass)
    Image.new('RGB', (9, 9), 'white').save(small)
    infer = SlideInferencer(
        slide_model, slide_mpp=.5,
        encoder=build_tile_encoder('resnet18-block3', random_seed=0))
    results = infer([tmp_path, glass, small])
    assert [result['note'] for result in results] == [
        'no patches', '', 'no patches', 'no patches']
    for result in results[::2]:
        assert result['label'] is result['scores'] is None
        assert result['attention'].shape == (1, 0)
        assert result['coords'].shape == (0, 2)
    alone, = infer(tmp_path / 'b.h5')
    np.testing.assert_array_equal(results[1]['scores'], alone['scores'])
    pictures = infer.visualize(tmp_path, results[:2])
    assert all(picture.ndim == 3 for picture in pictures)


def test_slides_that_are_broken_do_not_stop_the_others(slide_model, tmp_path):
    slides = [tmp_path / f'{name}.h5' for name in 'abc']
    for path, dims in zip(slides, (256, 256, 8), strict=True):
        write_features(path, 'clam-h5', *draw_bag(9, dims, patch_size=64),
                       patch_size=64)
    slides[0].write_bytes(slides[0].read_bytes()[:200])
    (tmp_path / 'd.tif').write_bytes(b'no slide')
    encoder = build_tile_encoder('resnet18-block3', random_seed=0)
    infer = SlideInferencer(slide_model, slide_mpp=.5, encoder=encoder)
    broken, whole, *others = infer(tmp_path)
    assert (whole['error'], whole['scores'].shape) == ('', (2, ))
    for result, message in zip([broken, *others], (
            'a.h5 is truncated', 'c.h5 holds features of size 8',
            'd.tif has no features: '), strict=True):
        assert message in result['error']
        assert result['label'] is result['attention'] is None
        assert set(result) == set(whole)
    with pytest.raises(SlideFeatureError, match=r'1 of 1 .*a\.h5 is trunc'):
        infer(slides[0])
    infer.model.aggregator = MODELS.build(dict(
        type='mmmedmask.TransMIL', in_dims=256, embed_dims=8, num_heads=2))
    torch.save(torch.randn(9, 256), tmp_path / 'e.pt')
    _, whole, *_, unplaced = infer(tmp_path)
    assert whole['label'] in (0, 1)
    assert f'{tmp_path / "e.pt"}: TransMIL with pos' in unplaced['error']
    results = infer(tmp_path)
    pictures = infer.visualize(tmp_path, results)
    alone, = infer.visualize(slides[1], results[1:2])
    np.testing.assert_array_equal(pictures[1], alone)
    np.testing.assert_array_equal(
        pictures[0], draw_error(slides[0], results[0]['error']))
    with pytest.raises(SlideFeatureError, match=r'drawn.*a\.h5 is truncated'):
        infer.visualize(slides[0], results[:1])
    encoder.dims = 8
    with pytest.raises(ValueError, match='gives 8 .* model takes 256'):
        SlideInferencer(slide_model, encoder=encoder)
