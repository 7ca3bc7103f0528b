"""Packaging of mmmedmask.

Configs and tools lie beside the package, not in it. A wheel carries copies of
them in ``.mim`` folders, where ``mim`` and MMEngine look for them:

* ``mmmedmask/.mim``, which ``mmmedmask::`` bases and openmim use;
* ``mmmedmask-<version>.dist-info/.mim``, because onedl-mim takes the folder
  of the first RECORD row as the package's root, and that is the dist-info
  folder ('-' sorts before '/'). For the same reason there are no console
  scripts. Delete :class:`BuildWheel` when onedl-mim asks for the package's
  location instead.

An editable install needs neither: its root is this folder. There, a ``.mim``
copy would give ``mim`` two configs of one name.
"""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM_CONTENT = ('configs', 'tools', 'model-index.yml')


def read_version() -> str:
    """Return ``__version__`` without importing the package."""
    scope = {}
    exec((ROOT / 'mmmedmask' / 'version.py').read_text('utf-8'), scope)
    return scope['__version__']


def read_requirements(name: str) -> list[str]:
    """Return the requirements of ``requirements/<name>.txt``."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text('utf-8')
    stripped = (line.partition('#')[0].strip() for line in lines.splitlines())
    return [line for line in stripped if line]


def copy_mim_content(destination: Path) -> None:
    """Copy what ``mim`` needs into the folder ``destination``."""
    ignore = shutil.ignore_patterns('__pycache__', '*.py[cod]')
    destination.mkdir(parents=True)
    for name in MIM_CONTENT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, destination / name, ignore=ignore)
        else:
            shutil.copy2(source, destination / name)


class BuildPy(build_py):
    """Adds ``mmmedmask/.mim`` to what is built, unless it is editable."""

    def run(self):
        if self.editable_mode:
            super().run()
            return
        # What an earlier build left would be packed again.
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        copy_mim_content(Path(self.build_lib, 'mmmedmask', '.mim'))


class BuildWheel(bdist_wheel):
    """Adds ``.mim`` to the dist-info folder of a wheel."""

    def run(self):
        super().run()
        # Its configs would make bare config names ambiguous for `mim`.
        shutil.rmtree(self.get_finalized_command('build_py').build_lib)

    def write_wheelfile(self, wheelfile_base, *args, **kwargs):
        super().write_wheelfile(wheelfile_base, *args, **kwargs)
        # Editable wheels come here too, without having built a .mim.
        built = Path(wheelfile_base).parent / 'mmmedmask' / '.mim'
        if built.is_dir():
            shutil.copytree(built, Path(wheelfile_base, '.mim'))


OPENMMLAB = read_requirements('mminstall')
EXTRAS = {
    'openmmlab': OPENMMLAB,
    'detection': OPENMMLAB + read_requirements('detection'),
    'segmentation': OPENMMLAB + read_requirements('segmentation'),
    'slides': read_requirements('slides'),
    'genes': read_requirements('genes'),
    # Bags of slides, with times in the place of classes.
    'sam': OPENMMLAB + read_requirements('detection')
    + read_requirements('sam'),
    'survival': read_requirements('slides'),
    'radiology': read_requirements('radiology'),
    'plots': read_requirements('plots'),
    'storage': read_requirements('storage'),
    'encoders': read_requirements('encoders'),
    'experiments': read_requirements('experiments'),
    'export': read_requirements('export'),
    'demo': read_requirements('demo'),
    'logging': read_requirements('logging'),
    # openmim installs this one, onedl-mim the next.
    'mim': OPENMMLAB + read_requirements('mim'),
    'mminstall': OPENMMLAB,
}
# Without `sam`: beside transformers 5 mmpretrain alone cannot be imported,
# only after mmmedmask.
EXTRAS['all'] = sorted({name for extra, names in EXTRAS.items()
                        for name in names if extra != 'sam'})

setup(
    name='mmmedmask',
    version=read_version(),
    description='Masked pre-training for medical images inside OpenMMLab',
    long_description=(ROOT / 'README.md').read_text('utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords='computer vision, pathology, self-supervised learning, '
    'masked image modelling, OpenMMLab',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Medical Science Apps.',
    ],
    python_requires='>=3.11',
    packages=find_packages(include=['mmmedmask', 'mmmedmask.*']),
    install_requires=read_requirements('runtime'),
    package_data={
        'mmmedmask': ['py.typed'],
        'mmmedmask.experiments': ['Snakefile', '*.smk', 'profiles/*/*.yaml']
    },
    extras_require=EXTRAS,
    cmdclass={
        'bdist_wheel': BuildWheel,
        'build_py': BuildPy
    },
    zip_safe=False)
