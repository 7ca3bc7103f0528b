"""Table 8b, fine-tuning with a batch of 128; the default is 256."""

_base_ = '../benchmarks/vit-base-p16_msmae_1xb256-100e_messidor2.py'

train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=1e-3 * 128 / 256))
auto_scale_lr = dict(base_batch_size=128)
