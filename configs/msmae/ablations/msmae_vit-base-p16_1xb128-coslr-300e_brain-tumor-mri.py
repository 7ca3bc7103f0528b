"""Table 8a, Brain Tumor MRI: pre-training with a batch of 128."""

_base_ = '../msmae_vit-base-p16_1xb64-coslr-300e_brain-tumor-mri.py'

train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=1e-3 * 128 / 256))
auto_scale_lr = dict(base_batch_size=128)
