"""CMIM (WACV 2024): convolutional masked image modelling for pathology."""
