"""A map of tiles as one web page: tiles under the mouse, neighbours, legend.

A canvas and a grid of points let ten thousand tiles move smoothly.
"""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from mmmedmask.evaluation.probes import unit_rows
from mmmedmask.util.atomic_files import write_text
from mmmedmask.util.checks import check_integer

#: Tiles along each side of a sheet; browsers decode sheets faster than tiles.
SHEET_SIDE = 32


def nearest_neighbours(vectors: np.ndarray, count: int) -> np.ndarray:
    """Find the others nearest to each vector (N, D) by their cosine.

    Gives int32 (N, count), the nearest first; ``count`` is less than N.
    """
    from sklearn.neighbors import NearestNeighbors

    check_integer('count', count, 1, len(vectors) - 1)
    unit = unit_rows(vectors)
    # Brute force is exact, and fast in many dimensions.
    search = NearestNeighbors(n_neighbors=count, algorithm='brute').fit(unit)
    # Called without vectors it leaves out each one itself.
    return search.kneighbors(return_distance=False).astype(np.int32)


def thumbnail_sheets(pictures: Sequence[np.ndarray], side: int) -> list[str]:
    """Put RGB thumbnails (side, side, 3) on sheets, JPEG in data addresses."""
    sheets = []
    for start in range(0, len(pictures), SHEET_SIDE**2):
        part = pictures[start:start + SHEET_SIDE**2]
        rows = -(-len(part) // SHEET_SIDE)
        sheet = np.zeros((rows * side, SHEET_SIDE * side, 3), np.uint8)
        for place, picture in enumerate(part):
            top, left = (side * part for part in divmod(place, SHEET_SIDE))
            sheet[top:top + side, left:left + side] = picture
        encoded = cv2.imencode('.jpg', sheet[..., ::-1],
                               [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
        sheets.append('data:image/jpeg;base64,'
                      + base64.b64encode(encoded).decode())
    return sheets


def write_embedding_page(
        path: str | Path, title: str, points: np.ndarray,
        neighbours: np.ndarray, thumbnails: Sequence[np.ndarray],
        names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> None:
    """Write a map of tiles.

    Args:
        points: Where the N tiles are, (N, 2).
        neighbours: Numbers of each one's nearest, (N, k).
        thumbnails: uint8 RGB, of one square size.
        groups: By what tiles can be coloured, such as ``'folder'``, and the
            class of each tile.
    """
    lengths = [len(points), len(neighbours), len(thumbnails), len(names),
               *map(len, groups.values())]
    if len(set(lengths)) != 1 or not groups:
        raise ValueError('points, neighbours, thumbnails, names and groups '
                         f'must be of one length and one group at least, got '
                         f'{lengths} and {list(groups)}')
    low, high = points.min(axis=0), points.max(axis=0)
    middle, reach = (low + high) / 2, max(float((high - low).max()), 1e-12)
    side = thumbnails[0].shape[0]
    colours = []
    for name, values in groups.items():
        classes, labels = np.unique(values, return_inverse=True)
        colours.append(dict(name=name, classes=classes.tolist(),
                            labels=_packed(labels, '<i4')))
    data = dict(
        points=_packed((points - middle) / reach + .5, '<f4'),
        near=_packed(neighbours, '<i4'), k=neighbours.shape[1], side=side,
        columns=SHEET_SIDE, sheets=thumbnail_sheets(thumbnails, side),
        names=list(names), groups=colours)
    # Nothing inside of the data may end the script.
    text = json.dumps(data).replace('<', '\\u003c')
    page = _PAGE.replace('{{title}}', html.escape(title))
    write_text(Path(path), page.replace('{{data}}', text))


def _packed(values: object, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, kind)).decode()


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{{title}}</title>
<style>
  body { margin: 0; height: 100vh; display: flex; background: #fff;
         font: 14px/1.4 system-ui, sans-serif; color: #1f2430; }
  #map { position: relative; flex: 1; overflow: hidden; cursor: crosshair; }
  #map canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
  aside { width: 19rem; padding: 1rem; overflow: auto;
          border-left: 1px solid #e4e0ea; }
  h1 { font-size: 1.1rem; margin: 0 0 .6rem; overflow-wrap: anywhere; }
  #legend label { display: block; }
  #legend i { display: inline-block; width: .8em; height: .8em;
              margin: 0 .4em; border-radius: 50%; }
  .tile { display: inline-block; margin: 2px; cursor: pointer; }
  #name { overflow-wrap: anywhere; min-height: 2.8em; }
</style>
</head>
<body>
<div id="map"><canvas id="points"></canvas><canvas id="marks"></canvas></div>
<aside>
  <h1>{{title}}</h1>
  <label>Colour <select id="group"></select></label>
  <button id="all">all</button> <button id="none">none</button>
  <div id="legend"></div>
  <hr><div id="hover"></div><div id="name"></div>
  <div id="near"></div>
  <p>Wheel: zoom. Drag: move. Click: nearest neighbours.</p>
</aside>
<script>
'use strict';
const data = {{data}};
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer;
const points = new Float32Array(bytes(data.points));
const near = new Int32Array(bytes(data.near));
const count = data.names.length;
for (const group of data.groups) {
  group.labels = new Int32Array(bytes(group.labels));
  group.shown = group.classes.map(() => true);
  group.members = group.classes.map(() => []);
  group.labels.forEach((label, i) => group.members[label].push(i));
  group.colors = group.classes.map(
    (_, i) => `hsl(${(i * 137.5) % 360} 70% ${40 + 15 * (i % 3)}%)`);
}
const state = {group: data.groups[0], scale: 1, x: 0, y: 0,
               hovered: -1, chosen: -1};
const $ = id => document.getElementById(id);
const map = $('map'), layers = [$('points'), $('marks')];
let size = 1, left = 0, top_ = 0, pixels = 1;

function place(i) {
  return [left + size * ((points[2 * i] - .5) * state.scale + .5) + state.x,
          top_ + size * ((.5 - points[2 * i + 1]) * state.scale + .5)
          + state.y];
}
const visible = i => state.group.shown[state.group.labels[i]];

// A grid over the map: a point under the mouse is near one of few.
const CELLS = 64, cells = Array.from({length: CELLS * CELLS}, () => []);
const cell = v => Math.max(0, Math.min(CELLS - 1, Math.floor(v * CELLS)));
for (let i = 0; i < count; i++)
  cells[cell(points[2 * i + 1]) * CELLS + cell(points[2 * i])].push(i);

function find(x, y, reach = 12) {
  const u = ((x - state.x - left) / size - .5) / state.scale + .5;
  const v = .5 - ((y - state.y - top_) / size - .5) / state.scale;
  const r = reach / size / state.scale;
  let best = -1, least = reach * reach;
  for (let row = cell(v - r); row <= cell(v + r); row++)
    for (let column = cell(u - r); column <= cell(u + r); column++)
      for (const i of cells[row * CELLS + column]) {
        if (!visible(i)) continue;
        const [px, py] = place(i), d = (px - x) ** 2 + (py - y) ** 2;
        if (d < least) { least = d; best = i; }
      }
  return best;
}

function drawPoints() {
  const context = layers[0].getContext('2d');
  context.setTransform(pixels, 0, 0, pixels, 0, 0);
  context.clearRect(0, 0, map.clientWidth, map.clientHeight);
  const r = Math.min(5, 2 + Math.log2(state.scale) / 2);
  const zoom = size * state.scale;
  const x = left + state.x + (size - zoom) / 2 - r;
  const y = top_ + state.y + (size + zoom) / 2 - r;
  // One colour after the other: a canvas is slow to change it.
  state.group.members.forEach((members, label) => {
    if (!state.group.shown[label]) return;
    context.fillStyle = state.group.colors[label];
    for (const i of members)
      context.fillRect(x + zoom * points[2 * i],
                       y - zoom * points[2 * i + 1], 2 * r, 2 * r);
  });
  drawMarks();
}

function drawMarks() {
  const context = layers[1].getContext('2d');
  context.setTransform(pixels, 0, 0, pixels, 0, 0);
  context.clearRect(0, 0, map.clientWidth, map.clientHeight);
  context.lineWidth = 2;
  const ring = (i, color, r) => {
    if (i < 0) return;
    const [x, y] = place(i);
    context.strokeStyle = color;
    context.beginPath();
    context.arc(x, y, r, 0, 7);
    context.stroke();
  };
  if (state.chosen >= 0)
    for (let n = 0; n < data.k; n++)
      ring(near[state.chosen * data.k + n], '#000', 6);
  ring(state.chosen, '#d00', 9);
  ring(state.hovered, '#000', 9);
}

function picture(i, zoom) {
  const sheet = Math.floor(i / data.columns ** 2), side = data.side * zoom;
  const at = i % data.columns ** 2, div = document.createElement('div');
  div.className = 'tile';
  div.dataset.tile = i;
  div.title = data.names[i];
  Object.assign(div.style, {
    width: `${side}px`, height: `${side}px`,
    backgroundImage: `url(${data.sheets[sheet]})`,
    backgroundSize: `${side * data.columns}px auto`,
    backgroundPosition: `-${side * (at % data.columns)}px `
      + `-${side * Math.floor(at / data.columns)}px`});
  div.onclick = () => choose(i);
  return div;
}

function hover(i) {
  if (i === state.hovered) return;
  state.hovered = i;
  if (i >= 0) {
    $('hover').replaceChildren(picture(i, 3));
    $('name').textContent = data.names[i] + ' (' + data.groups.map(
      g => `${g.name}: ${g.classes[g.labels[i]]}`).join(', ') + ')';
  }
  drawMarks();
}

function choose(i) {
  state.chosen = i;
  const tiles = [];
  if (i >= 0) {
    tiles.push(picture(i, 1.5), document.createElement('br'));
    for (let n = 0; n < data.k; n++)
      tiles.push(picture(near[i * data.k + n], 1.5));
  }
  $('near').replaceChildren(...tiles);
  drawMarks();
}

function legend() {
  const group = state.group;
  $('legend').replaceChildren(...group.classes.map((name, label) => {
    const row = document.createElement('label');
    const box = document.createElement('input');
    const dot = document.createElement('i');
    box.type = 'checkbox';
    box.checked = group.shown[label];
    box.onchange = () => { group.shown[label] = box.checked; drawPoints(); };
    dot.style.background = group.colors[label];
    row.append(box, dot, `${name} (${group.members[label].length})`);
    return row;
  }));
  drawPoints();
}

function fit() {
  pixels = window.devicePixelRatio || 1;
  for (const layer of layers) {
    layer.width = map.clientWidth * pixels;
    layer.height = map.clientHeight * pixels;
  }
  size = .94 * Math.min(map.clientWidth, map.clientHeight);
  left = (map.clientWidth - size) / 2;
  top_ = (map.clientHeight - size) / 2;
  drawPoints();
}

let drag = null, frame = 0;
const redraw = () => {
  frame = frame || requestAnimationFrame(() => { frame = 0; drawPoints(); });
};
map.onmousedown = e => { drag = {x: e.offsetX, y: e.offsetY, moved: false}; };
map.onmousemove = e => {
  if (!drag) { hover(find(e.offsetX, e.offsetY)); return; }
  const dx = e.offsetX - drag.x, dy = e.offsetY - drag.y;
  if (!drag.moved && Math.hypot(dx, dy) < 4) return;
  Object.assign(drag, {x: e.offsetX, y: e.offsetY, moved: true});
  state.x += dx;
  state.y += dy;
  redraw();
};
map.onmouseup = e => {
  if (drag && !drag.moved) choose(find(e.offsetX, e.offsetY));
  drag = null;
};
map.onmouseleave = () => { drag = null; };
map.addEventListener('wheel', e => {
  e.preventDefault();
  const factor = Math.exp(-e.deltaY / 400);
  const x = e.offsetX - left - size / 2, y = e.offsetY - top_ - size / 2;
  state.x = x - (x - state.x) * factor;
  state.y = y - (y - state.y) * factor;
  state.scale *= factor;
  redraw();
}, {passive: false});
for (const [id, shown] of [['all', true], ['none', false]])
  $(id).onclick = () => { state.group.shown.fill(shown); legend(); };
data.groups.forEach((group, i) => $('group').add(new Option(group.name, i)));
$('group').onchange = e => {
  state.group = data.groups[e.target.value];
  legend();
};
window.onresize = fit;
legend();
fit();
</script>
</body>
</html>
"""
