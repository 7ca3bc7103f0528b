"""Packaging of mmmedmask."""

from setuptools import find_packages, setup

setup(
    name='mmmedmask',
    version='0.1.0',
    packages=find_packages(include=['mmmedmask', 'mmmedmask.*']),
    zip_safe=False)
