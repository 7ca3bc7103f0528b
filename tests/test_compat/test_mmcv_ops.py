"""``mmcv.ops`` imports without compiled ops, whatever was imported first."""

import sys

import pytest
from processes import run_fresh

from mmmedmask.compat import apply_patches, has_compiled_ops, mmcv_ops

stand_in_only = pytest.mark.skipif(
    has_compiled_ops(), reason='mmcv has compiled ops')


def check_python(*codes, arguments=()):
    """Run code in processes that have not seen mmmedmask."""
    result = run_fresh(*codes, arguments=arguments)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
@stand_in_only
def test_hosts_imported_first_get_the_ops():
    check_python("""
        import mmcv.cnn
        import mmcv.cnn.bricks.transformer as transformer
        import mmdet.structures.mask.structures as masks
        import mmdet.utils.large_image as large_image
        import mmseg.utils.mask_classification as mask_classification
        import numpy
        import torch

        # The gap is there: delete the stand-in when this no longer holds.
        try:
            import mmcv.ops
        except ModuleNotFoundError as error:
            assert error.name == 'mmcv._ext'
        else:
            raise AssertionError('mmcv.ops imports without mmmedmask')
        assert mask_classification.point_sample is None

        from mmdet.structures.bbox import bbox_overlaps
        import mmmedmask

        import mmcv.ops
        assert masks.roi_align is mmcv.ops.roi_align
        assert large_image.batched_nms is mmcv.ops.batched_nms
        assert mask_classification.point_sample is mmcv.ops.point_sample
        assert transformer.MultiScaleDeformableAttention is (
            mmcv.ops.MultiScaleDeformableAttention)
        # mmdet's own function of the same name as an op stays.
        from mmdet.structures import bbox
        assert bbox.bbox_overlaps is bbox_overlaps
        assert bbox_overlaps is not mmcv.ops.bbox_overlaps

        mask = numpy.zeros((1, 8, 8), numpy.uint8)
        mask[0, 2:6, 2:6] = 1
        cropped = masks.BitmapMasks(mask, 8, 8).crop_and_resize(
            numpy.array([[2., 2., 6., 6.]]), (4, 4), numpy.array([0]))
        assert cropped.masks.all()

        from mmmedmask.compat import rebind_mmcv_ops
        assert rebind_mmcv_ops() == []
        """)


@stand_in_only
def test_environment_is_reported():
    import mmcv.utils
    import torchvision
    from mmengine.utils import dl_utils
    environment = mmcv.utils.collect_env()
    expected = f'not compiled, ops from torchvision {torchvision.__version__}'
    assert environment['MMCV Compiler'] == expected
    assert environment['MMCV CUDA Compiler'] == expected
    environment = dl_utils.collect_env()
    assert environment['TorchVision'] == torchvision.__version__
    assert dl_utils.mmcv_full_available()


def test_deformable_attention_is_usable():
    # Off the GPU mmcv has it in Python, but it imports the compiled op.
    import torch
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttention
    attention = MultiScaleDeformableAttention(
        16, num_heads=2, num_levels=1, batch_first=True)
    tokens = torch.randn(1, 12, 16)
    output = attention(
        tokens, value=tokens, reference_points=torch.rand(1, 12, 1, 2),
        spatial_shapes=torch.tensor([[3, 4]]),
        level_start_index=torch.tensor([0]))
    assert output.shape == tokens.shape


@pytest.fixture
def extensions(tmp_path):
    """Folders with an extension that works and with one that does not."""
    sources = {
        'working': ('def __getattr__(name):\n'
                    "    return lambda: f'compiled {name}'\n"),
        'broken': "raise ImportError('undefined symbol: at::something')\n"}
    for name, source in sources.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / '_ext.py').write_text(source)
    return tmp_path / 'working', tmp_path / 'broken'


def test_compiled_ops_are_left_alone(extensions):
    check_python(
        """
        import sys
        import mmmedmask
        import mmcv
        from mmmedmask.compat import has_compiled_ops

        working, broken = sys.argv[1:]
        mmcv.__path__.append(broken)
        try:
            import mmcv._ext
        except ImportError as error:
            assert 'undefined symbol' in str(error)
        else:
            raise AssertionError('a broken extension was replaced')

        mmcv.__path__[-1] = working
        import mmcv._ext
        assert has_compiled_ops()
        assert mmcv._ext.nms() == 'compiled nms'
        assert mmcv._ext.softnms() == 'compiled softnms'
        """,
        # The same, if a host is imported first.
        """
        import sys
        import mmcv
        mmcv.__path__.append(sys.argv[1])
        import mmdet.utils.large_image as large_image
        before = large_image.batched_nms
        import mmmedmask
        from mmmedmask.compat import has_compiled_ops
        assert has_compiled_ops()
        assert large_image.batched_nms is before
        import mmcv._ext
        assert mmcv._ext.nms() == 'compiled nms'
        """, arguments=extensions)


@stand_in_only
def test_other_ops_import_but_say_how_to_get_them():
    import torch
    from mmcv import ops
    with pytest.raises(RuntimeError, match="'softnms'.*no-build-isolation"):
        ops.soft_nms(torch.zeros(1, 4), torch.zeros(1))
    with pytest.raises(RuntimeError, match="'roi_pool_forward'"):
        ops.roi_pool(torch.zeros(1, 1, 4, 4), torch.zeros(1, 5), (2, 2))


@stand_in_only
def test_stand_in_is_a_proper_module():
    import mmcv._ext
    assert mmcv._ext.__spec__.name == 'mmcv._ext'
    assert 'mmmedmask' in repr(mmcv._ext)
    assert mmcv._ext.knn_forward is mmcv._ext.knn_forward
    # Else pickling, copying and inspecting would take any name for an op.
    with pytest.raises(AttributeError, match='__wrapped__'):
        mmcv._ext.__wrapped__  # noqa: B018


def test_applying_twice_changes_nothing():
    before = list(sys.meta_path)
    apply_patches()
    assert sys.meta_path == before
    assert before.count(mmcv_ops._STAND_IN) == 1
