"""ConCL's optimisation: CMIM's, which follows it, with weight decay on all."""

_base_ = './cmim_sgd_800e.py'

max_epochs = 200

optim_wrapper = dict(paramwise_cfg=dict(_delete_=True))
train_cfg = dict(max_epochs=max_epochs)
