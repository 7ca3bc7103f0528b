"""A recipe of two stages, and tools that do nothing but leave their files."""

import copy
from pathlib import Path

import yaml

PRETRAIN = """
default_scope = 'mmpretrain'
model = dict(type='Pretraining', backbone=dict(type='ResNet', depth=18))
train_dataloader = dict(
    batch_size=4, num_workers=2,
    dataset=dict(type='Tiles', data_root=['data/tiles/a', 'data/tiles/b']))
train_cfg = dict(by_epoch=True, max_epochs=3)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
auto_scale_lr = dict(base_batch_size=4)
randomness = dict(seed=0)
"""
DOWNSTREAM = """
default_scope = 'mmpretrain'
model = dict(
    type='Classifier',
    backbone=dict(type='ResNet', depth=18, init_cfg=dict(
        type='Pretrained', prefix='backbone.',
        checkpoint='work_dirs/tiny_pretrain/epoch_3.pth')))
loader = dict(
    batch_size=4, num_workers=2,
    dataset=dict(type='Images', data_root='data/images/'))
train_dataloader = loader
test_dataloader = loader
test_evaluator = dict(type='Accuracy', ann_file='data/images/test.json')
test_cfg = dict()
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(
    checkpoint=dict(type='mmmedmask.SafeCheckpointHook',
                    save_best='accuracy/top1'),
    load_check=dict(type='mmmedmask.LoadCheckHook'))
"""
SCRATCH = """
_base_ = './tiny_downstream.py'
model = dict(backbone=dict(init_cfg=None))
"""
RECIPE = dict(
    name='tiny',
    title='A tiny table',
    paper='Nobody (2026), Table 1',
    notes=['The paper says 12 where 21 is meant.'],
    seeds=[0, 1],
    columns=[dict(name='accuracy', title='Accuracy', stage='classify',
                  metric='accuracy/top1', factor=100)],
    small={stage: dict(options={'train_cfg.max_epochs': 1})
           for stage in ('pretrain', 'classify')},
    data={scale: dict(tiles='docs/datasets.md#tiles',
                      images='docs/datasets.md#images')
          for scale in ('paper', 'small')},
    rows=[
        dict(name='ours', title='Ours',
             stages=dict(pretrain='tiny_pretrain', classify='tiny_downstream'),
             paper=dict(accuracy=12.5)),
        dict(name='scratch', title='From scratch',
             stages=dict(classify='tiny_scratch'), paper=dict(accuracy=10.25)),
    ])

# What the tools share: the options, and a checkpoint that is a zip file.
TOOL = '''
import json, os, sys, time, zipfile
from pathlib import Path

args = sys.argv[1:]
with open(os.environ['TINY_CALLS'], 'a') as stream:
    stream.write(json.dumps([Path(sys.argv[0]).name, *args]) + chr(10))

def after(name):
    return args[args.index(name) + 1]

def options():
    rest = args[args.index('--cfg-options') + 1:]
    return dict(one.split('=', 1) for one in rest)

def write(path, text):
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('weights', text)

def read(path):
    return zipfile.ZipFile(path).read('weights').decode()

def nap():
    time.sleep(float(os.environ.get('TINY_SLEEP', 0)))

def log_folder(work_dir):
    number = int(time.strftime('%H%M%S'))
    while (path := Path(work_dir) / ('20260101_%06d' % number)).exists():
        number += 1
    (path / 'vis_data').mkdir(parents=True)
    return path
'''
TRAIN = TOOL + '''
work_dir = Path(after('--work-dir'))
name = Path(args[0]).stem
epochs = {'tiny_pretrain': 3}.get(name, 2)
epochs = min(epochs, int(os.environ.get('TINY_STOP_AFTER', epochs)))
logs = log_folder(work_dir)
log = (logs / (logs.name + '.log')).open('w')
seed = options()['randomness.seed']
source = options().get('model.backbone.init_cfg.checkpoint')
pointer = work_dir / 'last_checkpoint'
first, text = 0, name + ' seed ' + seed
if pointer.exists():
    path = work_dir / Path(pointer.read_text()).name
    text = read(path)
    first = int(path.stem.split('_')[1])
elif source:
    text += ' from ' + read(source)
    log.write('Load check of backbone against x under y: 62 of 62 tensors '
              'are equal (100.0 %).' + chr(10))
    log.flush()
for epoch in range(first, epochs):
    with (logs / 'vis_data' / 'scalars.json').open('a') as scalars:
        scalars.write(json.dumps(dict(loss=1.5, time=.5, step=epoch * 10 + 5,
                                      epoch=epoch + 1)) + chr(10))
    log.write('Epoch(train)  [%d][ 5/10]  lr: 1' % (epoch + 1) + chr(10))
    log.flush()
    nap()
    if os.environ.get('TINY_FAIL') == name:
        sys.exit('CUDA error: the cat is on the keyboard')
    write(work_dir / ('epoch_%d.pth' % (epoch + 1)), text + '+')
    text += '+'
    part = work_dir / 'pointer.part'
    part.write_text(str(work_dir / ('epoch_%d.pth' % (epoch + 1))))
    part.replace(pointer)
    (work_dir / ('epoch_%d.pth' % epoch)).unlink(missing_ok=True)
write(work_dir / 'best_accuracy_top1_epoch_1.pth', text + ' best')
(work_dir / 'best_checkpoint').write_text(
    str(work_dir / 'best_accuracy_top1_epoch_1.pth'))
'''
TEST = TOOL + '''
logs = log_folder(after('--work-dir'))
text = read(args[1])
nap()
value = .1 + .01 * int(options()['randomness.seed']) + .001 * len(text)
(logs / (logs.name + '.json')).write_text(
    json.dumps({'accuracy/top1': value, 'time': .1, 'data_time': .1}))
'''
EXPORT = TOOL + '''
nap()
write(args[1], 'exported ' + read(args[0]))
'''


def tiny_recipe(ours=None, **changes):
    """The recipe as a dict, with other stages of ours and other keys."""
    recipe = copy.deepcopy({**RECIPE, **changes})
    recipe['rows'][0]['stages'].update(ours or {})
    return recipe


def pretrain(checkpoint='last', **options):
    """The first stage of ours, with options."""
    return dict(pretrain=dict(config='tiny_pretrain', checkpoint=checkpoint,
                              options=options))


def classify(checkpoint='last', **options):
    """The second stage of ours, with options."""
    return dict(classify=dict(config='tiny_downstream', checkpoint=checkpoint,
                              options=options))


def write_recipe(folder, content=None, name=None):
    """Write the recipe and its configs."""
    folder = Path(folder) / 'family' / 'recipes'
    folder.mkdir(parents=True, exist_ok=True)
    for stem, text in (('tiny_pretrain', PRETRAIN),
                       ('tiny_downstream', DOWNSTREAM),
                       ('tiny_scratch', SCRATCH)):
        (folder.parent / f'{stem}.py').write_text(text)
    content = content or tiny_recipe()
    path = folder / f'{name or content["name"]}.yml'
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def write_data(folder):
    """Write the files that the configs name."""
    for name in ('tiles/a/1.png', 'tiles/b/2.png', 'images/test.json'):
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return Path(folder)


def write_tools(folder):
    """Write tools that leave files as the real ones do, at once."""
    folder = Path(folder)
    (folder / 'model_converters').mkdir(parents=True)
    for name, text in (('train.py', TRAIN), ('test.py', TEST),
                       ('model_converters/export_backbone.py', EXPORT)):
        (folder / name).write_text(text)
    return folder
