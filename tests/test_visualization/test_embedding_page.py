"""Maps of tiles: neighbours, sheets, and the page in a browser."""

import base64
import html
import json
import re
import sys

import cv2
import numpy as np
import pytest
import torch
from commands import call
from mmengine.config import Config
from pages import check_page, open_page, show_page
from PIL import Image

from mmmedmask.shrinking.shrink import shrink_config
from mmmedmask.visualization.embedding_page import (
    nearest_neighbours,
    thumbnail_sheets,
    write_embedding_page,
)
from mmmedmask.visualization.embeddings import frequent_classes, project

# Moves the mouse, clicks and zooms as a user does, and writes what it finds
# into the page.
USER = """
const found = {}, at = i => { const r = map.getBoundingClientRect();
  const [x, y] = place(i); return {clientX: r.left + x, clientY: r.top + y,
  bubbles: true, cancelable: true}; };
const send = (kind, i) => layers[1].dispatchEvent(
  new MouseEvent(kind, at(i)));
const click = i => { send('mousedown', i); send('mouseup', i); };
const tiles = () => [...$('near').querySelectorAll('.tile')].map(
  t => Number(t.dataset.tile));
const painted = () => { const c = layers[0]; const d = c.getContext('2d')
  .getImageData(0, 0, c.width, c.height).data; let n = 0;
  for (let k = 3; k < d.length; k += 4) n += d[k] > 0; return n; };
found.painted = painted();
send('mousemove', 7);
found.hovered = $('name').textContent;
found.shown = Number($('hover').firstChild.dataset.tile);
found.sheet = $('hover').firstChild.style.backgroundPosition;
click(7);
found.near = tiles();
$('near').querySelectorAll('.tile')[1].onclick();
found.after = tiles();
const rows = [...$('legend').querySelectorAll('label')];
found.legend = rows.map(row => row.textContent);
const box = rows[state.group.labels[7]].querySelector('input');
box.checked = false; box.onchange();
found.without = painted();
found.hidden = find(...place(7), 1);
$('none').onclick();
found.none = painted();
$('all').onclick();
found.all = painted();
$('group').value = 1; $('group').onchange({target: $('group')});
found.other = $('legend').querySelectorAll('label').length;
const before = place(3);
layers[1].dispatchEvent(new WheelEvent('wheel', {...at(3), deltaY: -400}));
found.zoom = [state.scale, before, place(3)];
const start = performance.now();
for (let k = 0; k < 20; k++) drawPoints();
found.draw = (performance.now() - start) / 20;
const begin = performance.now();
for (let k = 0; k < 1000; k++) find(...place(k % count));
found.find = (performance.now() - begin) / 1000;
const out = document.createElement('pre');
out.id = 'found'; out.textContent = JSON.stringify(found);
document.body.append(out);
"""


def drawn(count, seed=0):
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, 6))
    thumbnails = [np.full((12, 12, 3), number % 256, np.uint8)
                  for number in range(count)]
    return random.normal(size=(count, 2)), vectors, thumbnails


def page_of(path, count):
    points, vectors, thumbnails = drawn(count)
    near = nearest_neighbours(vectors, 4)
    write_embedding_page(
        path, 'a <map>', points, near, thumbnails,
        [f'tile </script> {number}' for number in range(count)],
        dict(label=[f'c{number % 3}' for number in range(count)],
             slide=[f's{number % 40}' for number in range(count)]))
    return points, near


def test_neighbours_equal_a_loop():
    _, vectors, _ = drawn(40)
    expected = []
    for one, vector in enumerate(vectors):
        cosines = [-np.inf if other == one else vector @ vectors[other]
                   / np.linalg.norm(vector) / np.linalg.norm(vectors[other])
                   for other in range(40)]
        expected.append(np.argsort(cosines)[::-1][:3])
    np.testing.assert_array_equal(nearest_neighbours(vectors, 3), expected)
    with pytest.raises(ValueError, match='count .* 40'):
        nearest_neighbours(vectors, 40)


def test_sheets_hold_every_thumbnail():
    _, _, thumbnails = drawn(1100)
    sheets = thumbnail_sheets(thumbnails, 12)
    assert len(sheets) == 2
    with_all = cv2.imdecode(np.frombuffer(base64.b64decode(
        sheets[1].partition(',')[2]), np.uint8), cv2.IMREAD_COLOR)
    assert with_all.shape == (12 * 3, 12 * 32, 3)
    # Number 1,024 + 32 + 5 is in the second row.
    assert abs(int(with_all[18, 12 * 5 + 6, 0]) - 1061 % 256) < 6


def test_what_makes_no_page(tmp_path):
    points, vectors, thumbnails = drawn(9)
    near = nearest_neighbours(vectors, 2)
    for names, groups in ((['a'] * 8, dict(x=['b'] * 9)), (['a'] * 9, {})):
        with pytest.raises(ValueError, match='one length and one group'):
            write_embedding_page(tmp_path / 'a.html', 'x', points, near,
                                 thumbnails, names, groups)


def test_page_needs_nothing_else(tmp_path):
    page_of(tmp_path / 'map.html', 50)
    text = (tmp_path / 'map.html').read_text(encoding='utf-8')
    # No address but those of data, and nothing that ends the script early.
    assert not re.findall(r'(?:src|href)\s*=|https?://|import ', text)
    assert text.count('</script>') == 1
    check_page(tmp_path / 'map.html')
    assert '<h1>a &lt;map&gt;</h1>' in text
    data = json.loads(re.search(r'const data = (.*);\n', text)[1])
    assert data['names'][3] == 'tile </script> 3'
    assert [group['name'] for group in data['groups']] == ['label', 'slide']


def test_page_in_a_browser(tmp_path):
    path = tmp_path / 'map.html'
    count = 10_000
    _, near = page_of(path, count)
    open_page(path)
    text = path.read_text(encoding='utf-8')
    path.write_text(text.replace('</script>', f'{USER}</script>'),
                    encoding='utf-8')
    found = json.loads(html.unescape(re.search(
        '<pre id="found">(.*?)</pre>',
        show_page(path, '--window-size=1200,800'))[1]))
    assert found['hovered'] == 'tile </script> 7 (label: c1, slide: s7)'
    assert found['shown'] == 7
    assert found['sheet'] == f'-{12 * 3 * 7}px 0px'
    assert found['near'] == [7, *near[7]]
    other = int(near[7][0])
    assert found['after'] == [other, *near[other]]
    assert found['legend'] == [f'c{label} ({(count + 2 - label) // 3})'
                               for label in range(3)]
    assert found['none'] == 0 < found['without'] < found['painted']
    assert found['all'] == found['painted']
    assert found['hidden'] != 7
    assert found['other'] == 40
    scale, before, after = found['zoom']
    assert scale == pytest.approx(np.e)
    # The place under the mouse stays where it is.
    assert after == pytest.approx(before, abs=1.5)
    print(f'{count} tiles: drawn in {found["draw"]:.1f} ms, found in '
          f'{1e3 * found["find"]:.0f} us')


def test_rare_classes_are_others():
    labels, classes = frequent_classes(['b', 'a', 'b'])
    assert (labels.tolist(), classes) == ([1, 0, 1], ('a', 'b'))
    values = [f'{letter}' for letter in 'abcdefghijkl'] + ['k', 'l']
    labels, classes = frequent_classes(values)
    assert len(classes) == 10
    assert classes[-1] == 'others'
    assert [classes[label] for label in labels[-4:]] == ['k', 'l', 'k', 'l']
    assert (labels == 9).sum() == 3


@pytest.mark.parametrize(
    'method', ['tsne', pytest.param('umap', marks=pytest.mark.slow)])
def test_layouts_keep_groups_apart(method):
    if method == 'umap':
        pytest.importorskip('umap')
    random = np.random.default_rng(0)
    groups = np.repeat([0, 1], 40)
    vectors = random.normal(size=(80, 64)) + 12 * groups[:, None]
    threads = torch.get_num_threads()
    points = project(vectors, method)
    # Numba can change them for all tests that follow in this process.
    assert torch.get_num_threads() == threads
    np.testing.assert_array_equal(points, project(vectors, method))
    near = np.linalg.norm(points[:, None] - points, axis=2)
    near[np.arange(80), np.arange(80)] = np.inf
    assert (groups[near.argmin(axis=1)] == groups).mean() > .95
    with pytest.raises(ValueError, match="method .*'pca'"):
        project(vectors, 'pca')


def read_page(file):
    text = file.read_text(encoding='utf-8')
    return json.loads(re.search(r'const data = (.*);\n', text)[1])


def test_tool(tmp_path):
    from shipped_configs import read
    torch.manual_seed(0)
    config = shrink_config(read('cmim_resnet18_8xb32-coslr-800e_nct'),
                           tmp_path / 'run', tmp_path / 'data')
    Config({name: config[name] for name in (
        'default_scope', 'model', 'train_dataloader')}).dump(
            tmp_path / 'config.py')
    random = np.random.default_rng(0)
    rows = ['path,label']
    for number in range(14):
        name = f'{"ab"[number % 2]}/s{number % 3}_{number}.png'
        (tmp_path / 'tiles' / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(
            0, 256, (64, 64, 3), np.uint8)).save(tmp_path / 'tiles' / name)
        # A path may begin in another way.
        rows.append(f'{"./" * (number == 2)}{name},{"xy"[number % 2]}')
    (tmp_path / 'labels.csv').write_text('\n'.join(rows[:-2]) + '\n')
    tool = ('visualizations/visualize_tiles.py', tmp_path / 'config.py',
            'none', tmp_path / 'tiles', '--out', tmp_path / 'new/map.png')
    with open(tmp_path / 'labels.csv', 'a') as stream:
        stream.write('a/absent.png,x\n')
    printed = call(
        *tool, '--html', tmp_path / 'new/map.html', '--labels',
        tmp_path / 'labels.csv', '--slide', '([^/_]+)_', '--color', 'slide',
        '--neighbours', 3)
    assert f'1 of 13 paths in {tmp_path}/labels.csv are no tiles of' in printed
    assert 'such as a/absent.png' in printed
    assert Image.open(tmp_path / 'new/map.png').size[0] > 200
    data = read_page(tmp_path / 'new/map.html')
    assert len(data['names']) == 12
    assert {group['name']: group['classes'] for group in data['groups']} == {
        'slide': ['s0', 's1', 's2'], 'label': ['x', 'y'], 'folder': ['a', 'b']}
    for arguments, message in (
        (['--color', 'slide'], '--slide REGEX'),
        (['--slide', 'z(.)'], "'z(.)' finds no group in a/s0_0.png")):
        printed = call(*tool, *arguments, status=1)
        assert message in printed
    with open(tmp_path / 'labels.csv', 'a') as stream:
        stream.write('a/s0_0.png,y\n')
    assert 'line 15: a/s0_0.png is listed in line 2 already' in call(
        *tool, '--labels', tmp_path / 'labels.csv', status=1)
    # Random weights are those of the seed, in each call.
    pages = []
    for number, seed in enumerate((0, 0, 1)):
        torch.manual_seed(number)
        pages.append(tmp_path / f'{number}.html')
        call(*tool, '--html', pages[-1], '--seed', seed)
    first, again, other = (page.read_bytes() for page in pages)
    assert first == again != other
    # Few tiles in one folder: slides tell them apart, and the folder's name.
    call(*tool[:3], tmp_path / 'tiles/a', '--out', tmp_path / 'flat.png',
         '--html', tmp_path / 'flat.html', '--slide', '([^/_]+)_')
    data = read_page(tmp_path / 'flat.html')
    assert [(group['name'], group['classes']) for group in data['groups']] == [
        ('slide', ['s0', 's1', 's2']), ('folder', ['a'])]
    assert (len(data['names']), data['k']) == (7, 6)
    # The others are drawn without a broken one, and with their own names.
    for name in ('a/s0_0.png', 'b/s1_1.png', 'b/c.dcm'):
        (tmp_path / 'tiles' / name).write_bytes(b'')
    printed = call(*tool, '--html', tmp_path / 'rest.html')
    assert 'The map is without the 3 tiles that cannot be used.\n' in printed
    for name in ('a/s0_0.png', 'b/s1_1.png', 'b/c.dcm'):
        assert printed.count(f'{tmp_path}/tiles/{name}') == 1
    rest = read_page(tmp_path / 'rest.html')
    whole = read_page(pages[0])
    assert rest['names'] == [name for name in whole['names'] if name not in (
        'a/s0_0.png', 'b/s1_1.png')]


def test_a_missing_package_is_named_before_tiles_are_read(monkeypatch):
    monkeypatch.setitem(sys.modules, 'umap', None)
    assert 'mmmedmask[plots]' in call(
        'visualizations/visualize_tiles.py', 'config.py', 'none', 'tiles',
        '--out', 'map.png', '--method', 'umap', status=1)


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--max-tiles', '-3'], 'must be at least 5, got -3'),
    (['--max-tiles', '0'], 'must be at least 5, got 0'),
    (['--neighbours', '0'], 'must be at least 1, got 0'),
    (['--slide', '([^/_]+_'], "'([^/_]+_' is no regular expression: missing"),
    (['--html', 'map'], "must end with .html or .htm, got 'map'"),
    (['--out', 'map.csv'], "must end with .png or .jpg")])
def test_what_the_tool_refuses_at_once(arguments, message):
    assert message in call(
        'visualizations/visualize_tiles.py', 'config.py', 'none', 'tiles',
        '--out', 'map.png', *arguments, status=2)
