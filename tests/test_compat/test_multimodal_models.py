"""mmpretrain imports no multimodal models beside transformers 5."""

from importlib.metadata import PackageNotFoundError

import pytest
from mmpretrain.utils import dependency

from mmmedmask.compat import multimodal_models


@pytest.mark.parametrize(('version', 'left'), [
    ('5.24.0', False), ('6.0rc1', False), ('4.57.1', True), (None, True)])
def test_by_version(version, left, monkeypatch):
    def answer(name):
        assert name == 'transformers'
        if version is None:
            raise PackageNotFoundError(name)
        return version

    monkeypatch.setattr(multimodal_models, 'version', answer)
    monkeypatch.setattr(dependency, 'WITH_MULTIMODAL', True)
    multimodal_models.leave_out_multimodal_models()
    assert dependency.WITH_MULTIMODAL is left
