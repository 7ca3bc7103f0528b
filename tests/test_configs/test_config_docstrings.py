"""A config says its learning rate, epochs, mask ratio and data."""

import ast
import re

import pytest
from settings_in_words import in_words, missing, parent_of, shown
from shipped_configs import CONFIGS, find, read

FOLDERS = sorted(path.name for path in CONFIGS.iterdir()
                 if path.is_dir() and path.name != '_base_')


def docstring(path):
    text = ast.get_docstring(ast.parse(path.read_text('utf-8')))
    return ' '.join(text.split())


@pytest.mark.parametrize('folder', FOLDERS)
def test_configs_say_what_people_look_for(folder):
    """Rate, epochs, mask ratio and data are in the file, or its docstring
    has the sentence of :func:`settings_in_words.in_words`.

    A config that inherits from one other leaf alone, such as an ablation, is
    a change of it: it has to say those of the four that it changes. A
    sentence that is there is true, needed or not.
    """
    trained = [path for path in sorted((CONFIGS / folder).rglob('*.py'))
               if read(path).get('train_cfg')]
    wrong = {}
    for path in trained:
        said = re.findall(r'Learning rate \S+ for batches .*?[^.]\.(?= |$)',
                          docstring(path))
        expected = [in_words(path)] if said or missing(path) else []
        if said != expected:
            wrong[path.name] = dict(said=said, expected=expected)
    assert trained
    assert not wrong


def test_sentences_as_one_writes_them():
    assert in_words(find('abmil_1xb8-coslr-70e_tcga-nsclc')) == (
        'Learning rate 1e-4 for batches of 1 x 8, 70 epochs; '
        'data/tcga_nsclc.')
    assert in_words(find('msmae_vit-base-p16_1xb64-coslr-300e_busi')) == (
        'Learning rate 2.5e-4 for batches of 1 x 64, 300 epochs, mask ratio '
        '0.45; data/busi.')
    assert in_words(find('mae_vit-base-p16_1xb64-coslr-300e_busi')) == (
        'Learning rate 2.5e-4 for batches of 1 x 64, 300 epochs, mask ratio '
        '0.75; data/busi.')
    assert in_words(find('beitv2_vit-small-p16_8xb32-coslr-800e_nct')) == (
        'Learning rate 1.875e-4 for batches of 8 x 32, 800 epochs, mask '
        'ratio 0.38; data/NCT.')
    assert in_words(find('mask-rcnn_cmim-resnet18-fpn_8xb2-1x_glas')) == (
        'Learning rate 0.02 for batches of 8 x 2, 5,000 iterations; '
        'data/glas.')
    assert in_words(find('mocov2_resnet18_1xb32-coslr-30e_he-tiles')) == (
        'Learning rate 0.03 for batches of 1 x 32, 30 epochs; '
        'data/lc25000/tiles and data/glas_tiles.')


def test_what_a_config_shows():
    """Of its own, with the value that is loaded; else the check is empty."""
    main = find('cmim_resnet18_8xb32-coslr-800e_nct')
    assert shown(main) == {'rate', 'length', 'ratio', 'data'}
    bare = find('abmil_1xb8-coslr-70e_tcga-nsclc')
    assert (shown(bare), parent_of(bare)) == (set(), None)
    assert missing(bare) == {'rate', 'length', 'data'}
    longer = find('cmim_resnet18_8xb32-coslr-1600e_nct')
    assert parent_of(longer) == main
    assert shown(longer) == {'length'}
    assert missing(longer) == set()
