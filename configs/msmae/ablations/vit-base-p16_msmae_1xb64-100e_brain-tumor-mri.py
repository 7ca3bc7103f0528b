"""Table 8b, Brain Tumor MRI: fine-tuned with a batch of 64."""

_base_ = '../benchmarks/vit-base-p16_msmae_1xb256-100e_brain-tumor-mri.py'

train_dataloader = dict(batch_size=64)
optim_wrapper = dict(optimizer=dict(lr=1e-3 * 64 / 256))
auto_scale_lr = dict(base_batch_size=64)
