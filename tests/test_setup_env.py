"""``register_all_modules`` registers everything, and a scope on demand."""

import subprocess
import sys

SCRIPT = """
import sys
sys.modules['mmdet'] = sys.modules['mmseg'] = None  # not needed for it

from mmengine.registry import DefaultScope
from mmmedmask import registry
from mmmedmask.setup_env import register_all_modules

assert len(registry.MODELS) == len(registry.HOOKS) == 0
register_all_modules()
assert DefaultScope.get_current_instance() is None
for name in ('MODELS', 'DATASETS', 'TRANSFORMS', 'HOOKS'):
    assert len(getattr(registry, name)) > 0, name
assert 'CMIM' in registry.MODELS

register_all_modules(init_default_scope=True)
assert DefaultScope.get_current_instance().scope_name == 'mmmedmask'
"""


def test_register_all_modules():
    # In a fresh process: here, other tests may have registered them.
    result = subprocess.run([sys.executable, '-c', SCRIPT],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
