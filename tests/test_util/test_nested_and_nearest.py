"""Walks of nested values, and the nearest of several names."""

import pytest

from mmmedmask.util.nearest import (
    alike,
    bare_name,
    did_you_mean,
    nearest_names,
)
from mmmedmask.util.nested import dotted, nested_dicts, walk_nested

CONFIG = dict(model=dict(parts=[dict(type='A'), (dict(type='B'), 1)]), n=2)


def test_all_nodes_are_visited_parents_first():
    paths = [dotted(path) for path, _ in walk_nested(CONFIG)]
    assert paths == ['', 'model', 'model.parts', 'model.parts.0',
                     'model.parts.0.type', 'model.parts.1', 'model.parts.1.0',
                     'model.parts.1.0.type', 'model.parts.1.1', 'n']


def test_dictionaries_can_be_changed_on_the_way():
    config = dict(type='A', parts=[dict(type='B')])
    for node in nested_dicts(config):
        del node['type']
    assert config == dict(parts=[{}])


def test_nearest_names():
    valid = ['mask_ratio', 'patch_size']
    assert nearest_names('mask_ration', valid) == ['mask_ratio']
    assert did_you_mean('patch_sizes', valid) == ' Did you mean patch_size?'
    assert did_you_mean('colour', valid) == ''


@pytest.mark.parametrize(('name', 'other', 'same'), [
    ('M\xfcller', 'Mu\u0308ller', True), ('P 1', 'P\xa0 1', True),
    ('A-1', 'a\u20111', True), ('A-1', 'A\u20131', True),
    ('P1', 'P\u200b1', True), ('stra\xdfe', 'STRASSE', True),
    ('P 1', 'P1', False), ('A-1', 'A_1', False), ('1', '10', False)])
def test_names_that_look_alike(name, other, same):
    assert (alike(name) == alike(other)) is same
    assert not same or bare_name(name) == bare_name(other)


@pytest.mark.parametrize(('name', 'other', 'same'), [
    ('TCGA-02-0001', 'tcga.02.0001', True), ('P 005', 'p-005', True),
    ('P_5.a', 'P5a', True), ('1.0', '10', False), ('1-12', '11-2', False),
    ('P1.0', 'P10', False)])
def test_names_but_for_signs(name, other, same):
    assert (bare_name(name) == bare_name(other)) is same
