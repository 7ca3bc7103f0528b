"""``register_all_modules`` registers everything, and a scope on demand."""

import re
from pathlib import Path

import pytest
from mmengine.registry import DefaultScope

import mmmedmask
from mmmedmask import registry, setup_env


@pytest.fixture
def scopes():
    """MMEngine's scopes; what a test adds is removed again."""
    before = dict(DefaultScope._instance_dict)
    yield before
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)


def test_all_packages_that_register_are_listed():
    folder = Path(mmmedmask.__file__).parent
    packages = {path.relative_to(folder).parts[0]
                for path in folder.rglob('*.py')
                if re.search(r'^@\w+\.register_module\(',
                             path.read_text(encoding='utf-8'), re.MULTILINE)}
    assert packages
    assert packages <= set(setup_env.PACKAGES)


def test_registering_sets_a_scope_only_on_demand(scopes):
    setup_env.register_all_modules()
    for name in ('MODELS', 'DATASETS', 'TRANSFORMS', 'HOOKS'):
        assert len(getattr(registry, name)) > 0, name
    assert dict(DefaultScope._instance_dict) == scopes
    setup_env.register_all_modules(init_default_scope=True)
    assert DefaultScope.get_current_instance().scope_name == 'mmmedmask'
