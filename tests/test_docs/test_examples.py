"""Examples in docstrings of what users call: they run, and are there."""

import doctest
import importlib
import inspect
import pkgutil
from logging import WARNING

import pytest
import torch
from mmengine.logging import MMLogger


def modules_of(package):
    return [f'{package}.{found.name}' for found in pkgutil.iter_modules(
        importlib.import_module(package).__path__)]


MODULES = [name for folder in ('functional', 'apis', 'util')
           for name in modules_of(f'mmmedmask.{folder}')]


def public(module):
    """Functions and classes that a module defines for others."""
    return {name: member for name, member in vars(module).items()
            if (inspect.isfunction(member) or inspect.isclass(member))
            and member.__module__ == module.__name__
            and not name.startswith('_')}


@pytest.fixture
def quiet():
    """Else it hangs on earlier tests whether an example logs weights."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(WARNING)
    yield
    logger.setLevel(level)


@pytest.mark.usefixtures('quiet')
@pytest.mark.parametrize('name', MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    """With the names of their module and ``torch``, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    result = doctest.testmod(
        importlib.import_module(name), extraglobs=dict(torch=torch),
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0, 'see the output'


@pytest.mark.parametrize('name', [
    name for name in MODULES if not name.startswith('mmmedmask.util')])
def test_what_is_public_has_an_example(name):
    bare = [public_name for public_name, member in public(
        importlib.import_module(name)).items()
        if '>>> ' not in (member.__doc__ or '')]
    assert bare == []
