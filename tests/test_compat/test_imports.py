"""What importing mmmedmask and its hosts imports, prints and mends."""

import logging
import subprocess
import sys
import textwrap

import pytest
from mmengine.logging import MMLogger, print_log
from processes import run_fresh

from mmmedmask.compat import after_import, import_hooks

pytest.importorskip('mmdet')


def run_quietly(code):
    """Run code in a fresh process; it has to succeed and print nothing."""
    result = subprocess.run(
        [sys.executable, '-W', 'default::UserWarning', '-c',
         textwrap.dedent(code)],
        capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, '', '')


BEFORE = """
import mmmedmask
heavy = {'numpy', 'torch', 'mmengine', 'mmcv', 'mmpretrain', 'mmdet'}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
MMDET_WAITS_UNTIL_SOMEBODY_NEEDS_IT = """
import sys
import mmpretrain.datasets
import mmpretrain.models
from mmpretrain.registry import MODELS
assert 'mmdet' not in sys.modules
assert mmpretrain.models.ResLayerExtraNorm is None

layer = MODELS.get('mmdet.ResLayerExtraNorm')
assert layer.__module__ == 'mmpretrain.models.utils.res_layer_extra_norm'
assert layer is mmpretrain.models.ResLayerExtraNorm
assert layer is mmpretrain.models.utils.ResLayerExtraNorm
# The hook leaves no trace in what it waited for.
loader = type(sys.modules['mmdet.models'].__spec__.loader)
assert loader.__name__ == 'SourceFileLoader'
"""
MMDET_IMPORTED_FIRST_REGISTERS_THE_LAYER = """
import mmdet.models
import mmpretrain.models
from mmdet.registry import MODELS
layer = MODELS.get('ResLayerExtraNorm')
assert layer is not None
assert layer is mmpretrain.models.ResLayerExtraNorm
"""
THE_ALIAS_OF_AN_OP_IS_NOT_MISSED = """
import sys
sys.modules['mmcv.ops'] = None  # as with mmcv-lite
import mmcv.cnn.bricks.transformer
"""


def test_training_waits_for_what_few_runs_need():
    """They would take two fifths of the time to the first iteration."""
    run_quietly("""
        import sys
        import mmmedmask.apis
        from mmmedmask.setup_env import register_all_modules
        register_all_modules()
        import mmpretrain.models
        late = {'sklearn', 'scipy', 'pandas', 'pyarrow', 'matplotlib',
                'mmdet', 'mmseg', 'openslide',
                'torch.distributed.optim'}
        assert not late & set(sys.modules), late & set(sys.modules)

        import torch
        import mmengine.optim
        from mmengine.registry import OPTIMIZERS
        from torch import distributed
        distributed.init_process_group(
            'gloo', store=distributed.HashStore(), rank=0, world_size=1)
        settings = dict(type='ZeroRedundancyOptimizer', lr=.1,
                        params=[torch.nn.Parameter(torch.ones(1))],
                        optimizer_type='SGD')
        for _ in range(2):
            optimizer = OPTIMIZERS.build(dict(settings))
            assert isinstance(
                optimizer, torch.distributed.optim.ZeroRedundancyOptimizer)
            assert type(optimizer) is mmengine.optim.ZeroRedundancyOptimizer
        distributed.destroy_process_group()
        """)


@pytest.mark.slow
def test_imports_wait_mend_and_print_nothing():
    result = run_fresh(MMDET_WAITS_UNTIL_SOMEBODY_NEEDS_IT,
                       MMDET_IMPORTED_FIRST_REGISTERS_THE_LAYER,
                       THE_ALIAS_OF_AN_OP_IS_NOT_MISSED, before=BEFORE)
    assert (result.returncode, result.stdout, result.stderr) == (0, '', '')


def test_other_messages_stay(capsys):
    print_log('Could not import OneDL')
    print_log('Could not import OneDL. Skipping OneDL datasets.')
    print_log('Could not import OneDL, nor anything else')
    assert capsys.readouterr().out == (
        'Could not import OneDL, nor anything else\n')
    logger = MMLogger.get_instance('test_other_messages_stay')
    records = []
    logger.addFilter(lambda record: records.append(record.msg) or True)
    logger.warning('Line NMS is not compiled. Most likely')
    logger.warning('Line NMS is fine.')
    logger.log(logging.ERROR, 'NMS is not compiled.')
    assert records == ['Line NMS is fine.', 'NMS is not compiled.']


def test_actions_run_once_per_import(tmp_path, monkeypatch):
    name = 'module_of_test_actions_run_once'
    (tmp_path / f'{name}.py').write_text('value = 1\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(import_hooks, '_ACTIONS', {})
    values = []

    def action():
        values.append(sys.modules[name].value)

    for _ in range(2):
        after_import(name, action)
    assert values == []
    module = __import__(name)
    assert values == [1]
    assert module.__spec__.loader is module.__loader__
    assert module.__loader__.get_source(name) == 'value = 1\n'
    after_import(name, lambda: values.append('at once'))
    assert values == [1, 'at once']
    del sys.modules[name]
