"""The contract accepts every shipped strategy and catches broken ones."""

import pytest
import torch
from mmengine.logging import MessageHub
from model_checks import unchanged
from test_models.test_cmim.tiny import tiny_model
from test_models.test_msmae.tiny_msmae import (
    tiny_classifier,
    tiny_pretraining,
)

from mmmedmask.functional.attention_masking import (
    TokenPartition,
    partition_tokens,
)
from mmmedmask.models.cmim import CMIM, CMIMDataPreprocessor
from mmmedmask.models.msmae import MSMAE, MSMAEClassifier
from mmmedmask.models.msmae.attention import MASKINGS
from mmmedmask.testing.backbone_contract import ContractError
from mmmedmask.testing.masking_contract import check_masking_contract

SHIPPED = {
    **{f'MSMAE, {masking}': lambda masking=masking: tiny_pretraining(
        masking=masking) for masking in MASKINGS},
    **{f'classifier, {masking}': lambda masking=masking: tiny_classifier(
        masking=masking) for masking in MASKINGS},
    'MSMAE with normalised targets': lambda: tiny_pretraining(
        head=dict(norm_pix=True)),
    'MSMAE with dropout': lambda: tiny_pretraining(
        backbone=dict(drop_rate=.2, drop_path_rate=.2)),
    'MSMAE that masks much': lambda: tiny_pretraining(
        mask_ratio=.85, throw_ratio=.1),
    'MSMAE that masks little': lambda: tiny_pretraining(
        mask_ratio=.15, throw_ratio=0, masking='inverse_attention'),
    'MSMAE in a column': lambda: tiny_pretraining(
        backbone=dict(img_size=(48, 4))),
    'CMIM': tiny_model,
    'CMIM with targets normalised in larger patches': lambda: tiny_model(
        head=dict(norm_pix='channel', patch_size=32),
        data_preprocessor=dict(mask_ratio=.2)),
    'CMIM in colour': lambda: tiny_model(
        data_preprocessor=dict(color=dict(brightness=.4))),
    'CMIM with views of the loader': lambda: tiny_model(
        data_preprocessor=dict(view_source='loader')),
    'CMIM with sparse convolutions': lambda: tiny_model(
        data_preprocessor=dict(patch_size=32),
        backbone=dict(type='mmmedmask.CMIMSparseResNet')),
}


@pytest.mark.parametrize('name', SHIPPED)
def test_shipped_strategies_fulfil_the_contract(name):
    model = SHIPPED[name]()
    state = dict(MessageHub.get_current_instance().runtime_info)
    with unchanged(model):
        check_masking_contract(model)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert dict(MessageHub.get_current_instance().runtime_info) == state


class MostAttended(MSMAE):
    def draw(self, inputs, data_samples, weights, ratios, masking):
        if weights is None:
            return super().draw(inputs, data_samples, weights, ratios, masking)
        return partition_tokens(weights, torch.ones_like(weights), *ratios)


def test_what_follows_from_maps_alone():
    model = remade(tiny_pretraining(), MostAttended)
    check_masking_contract(model, drawn=False)
    with pytest.raises(ContractError, match='with maps, the samples .* of a '
                       'batch share 1 mask in each of 8 iterations'):
        check_masking_contract(model)


def remade(model, kind):
    model.__class__ = kind
    return model


class Inverted(MSMAE):
    def partition(self, inputs, data_samples):
        masked, thrown, visible = super().partition(inputs, data_samples)
        return TokenPartition(visible, thrown, masked)


class OneMore(MSMAE):
    def draw(self, inputs, data_samples, weights, ratios, masking):
        return super().draw(inputs, data_samples, weights,
                            (ratios[0] + 1 / 24, ratios[1]), masking)


class Twice(MSMAE):
    def partition(self, inputs, data_samples):
        partition = super().partition(inputs, data_samples)
        return partition._replace(visible=partition.masked)


class Unsorted(MSMAE):
    def partition(self, inputs, data_samples):
        partition = super().partition(inputs, data_samples)
        return partition._replace(masked=partition.masked.flip(1))


class Int32(MSMAE):
    def partition(self, inputs, data_samples):
        return TokenPartition(*(ids.int() for ids in super().partition(
            inputs, data_samples)))


class PlainTuple(MSMAE):
    def partition(self, inputs, data_samples):
        return tuple(super().partition(inputs, data_samples))


class OneMask(MSMAE):
    def partition(self, inputs, data_samples):
        partition = super().partition(inputs[:1], data_samples[:1])
        return TokenPartition(*(ids.expand(len(inputs), -1)
                                for ids in partition))


class Drawn(MSMAE):
    """A draw whose noise comes from elsewhere."""

    def draw(self, inputs, data_samples, weights, ratios, masking):
        noise = self.noise(data_samples)
        weights = torch.ones_like(noise) if weights is None else weights
        return partition_tokens(weights, noise, *ratios)


class GlobalGenerator(Drawn):
    def noise(self, data_samples):
        return torch.rand(len(data_samples), 24)


class FixedSeed(Drawn):
    def noise(self, data_samples):
        return torch.stack([torch.rand(24, generator=torch.Generator(
        ).manual_seed(sample.sample_idx)) for sample in data_samples])


class ByPlace(Drawn):
    def noise(self, data_samples):
        return torch.rand(len(data_samples), 24,
                          generator=torch.Generator().manual_seed(0))


class NoIteration(MSMAE):
    def partition(self, inputs, data_samples):
        runtime = MessageHub.get_current_instance().runtime_info
        before = runtime['iter']
        runtime['iter'] = 0
        try:
            return super().partition(inputs, data_samples)
        finally:
            runtime['iter'] = before


class NeverTheFirst(MSMAE):
    def draw(self, inputs, data_samples, weights, ratios, masking):
        if weights is None:
            weights = torch.ones(len(inputs), 24)
        weights[:, 0] = 0
        return super().draw(inputs, data_samples, weights, ratios, masking)


class WrongWay(MSMAE):
    def draw(self, inputs, data_samples, weights, ratios, masking):
        return super().draw(inputs, data_samples, weights, ratios,
                            'inverse_attention')


class ChangedMaps(MSMAE):
    """A draw that follows other weights than the samples' own."""

    def draw(self, inputs, data_samples, weights, ratios, masking):
        if weights is not None:
            weights = self.changed(weights)
        return super().draw(inputs, data_samples, weights, ratios, masking)


class IgnoresMaps(ChangedMaps):
    def changed(self, weights):
        return torch.ones_like(weights)


class OthersMap(ChangedMaps):
    def changed(self, weights):
        return weights.roll(1, dims=0)


class Transposed(ChangedMaps):
    def changed(self, weights):
        return weights.unflatten(1, (4, 6)).transpose(1, 2).flatten(1)


class Mirrored(ChangedMaps):
    def changed(self, weights):
        return weights.unflatten(1, (4, 6)).flip(2).flatten(1)


class HalfStuck(MSMAE):
    """Odd samples have the same mask at every iteration and seed."""

    def draw(self, inputs, data_samples, weights, ratios, masking):
        drawn = super().draw(inputs, data_samples, weights, ratios, masking)
        state = MessageHub.get_current_instance().runtime_info
        before = dict(state)
        state.update(seed=0, iter=0)
        stuck = super().draw(inputs, data_samples, weights, ratios, masking)
        state.update(before)
        odd = torch.tensor([sample.sample_idx % 2 == 1
                            for sample in data_samples])[:, None]
        return TokenPartition(*(torch.where(odd, *ids)
                                for ids in zip(stuck, drawn, strict=True)))


class FewMasks(MSMAE):
    """All samples have one of a few masks."""

    def draw(self, inputs, data_samples, weights, ratios, masking):
        samples = [sample.clone() for sample in data_samples]
        for sample in samples:
            sample.set_field(sample.sample_idx % self.number, 'sample_idx',
                             field_type='metainfo')
        return super().draw(inputs, samples, weights, ratios, masking)


class Parity(FewMasks):
    number = 2


class OfTen(FewMasks):
    number = 10


class NegativeMaps(MSMAE):
    def attention_maps(self, inputs):
        return super().attention_maps(inputs) - 1


class MapsOfTheBatch(MSMAE):
    def attention_maps(self, inputs):
        maps = super().attention_maps(inputs)
        return maps / maps.sum()


class LongMaps(MSMAE):
    def attention_maps(self, inputs):
        return 1e5 * super().attention_maps(inputs)


class NothingHidden(MSMAE):
    def loss(self, inputs, data_samples):
        partition = self.partition(inputs, data_samples)
        latent, = self.backbone(inputs, partition.visible)
        return dict(loss=latent.square().mean())


class SeesAll(MSMAE):
    """The encoder sees all patches, and passes the visible ones on."""

    def loss(self, inputs, data_samples):
        partition = self.partition(inputs, data_samples)
        whole, = self.backbone(inputs)
        ids = torch.nn.functional.pad(partition.visible + 1, (1, 0))
        latent = whole.gather(1, ids[..., None].expand(
            -1, -1, whole.shape[2]))
        return dict(loss=self.head.reconstruction_loss(
            self.neck(latent, partition), inputs, partition.masked))


class SeesThrown(MSMAE):
    """The encoder sees the thrown patches, too."""

    def loss(self, inputs, data_samples):
        partition = self.partition(inputs, data_samples)
        latent, = self.backbone(inputs, torch.cat(
            [partition.visible, partition.thrown], dim=1))
        return dict(loss=self.head.reconstruction_loss(self.neck(
            latent[:, :1 + partition.visible.shape[1]], partition),
            inputs, partition.masked))


class VisiblePatchesScored(MSMAE):
    def loss(self, inputs, data_samples):
        partition = self.partition(inputs, data_samples)
        latent, = self.backbone(inputs, partition.visible)
        prediction = self.neck(latent, partition).mean(dim=1)
        target = self.head.target(inputs, partition.visible).mean(dim=1)
        return dict(loss=(prediction - target).square().mean())


@pytest.mark.parametrize(('kind', 'message'), [
    (Inverted, '6 of 24 patches of sample 7 are masked, but the ratios say '
     '18. That many should be visible: is the mask inverted'),
    (OneMore, '19 of 24 patches of sample 7 are masked, but the ratios say '
     '18$'),
    (Twice, 'each of 24 tokens has to be in one of masked, thrown and'),
    (Unsorted, 'the ids of masked are not ascending'),
    (Int32, r'masked is torch.int32, expected ids in torch.int64'),
    (PlainTuple, 'must return a TokenPartition, got tuple'),
    (OneMask, 'without maps, the samples .* of a batch share 1 mask in each'),
    (GlobalGenerator, 'a second draw .* not from a global generator'),
    (ByPlace, 'the mask of sample 0 alone is not the one in its batch'),
    (FixedSeed, r'masks of the samples \[7, .* do not follow the seed of the'),
    (NoIteration, r'masks of the samples \[7, .* do not follow the iteration'),
    (NeverTheFirst, r'1 of 24 patches are never masked in \d+ draws: \[0\]'),
    (WrongWay, "masking='attention', but .* is the mask inverted"),
    (IgnoresMaps, 'are heavy in its map: does the draw follow the map of'),
    (OthersMap, 'with maps, the mask of sample 7 alone is not the one in its'),
    (Transposed, 'are heavy in its map: does the draw follow the map of'),
    (Mirrored, 'of sample 12 .* are heavy in its map: is the mask inverted'),
    (HalfStuck, r'of the samples \[7, 3, 5, 720727\] do not follow the seed'),
    (Parity, 'of a batch share 2 masks in each of 8 iterations'),
    (OfTen, 'of a batch share 5 masks in each of 8 iterations'),
    (NegativeMaps, 'maps have to be finite and at least 0, the least is -'),
    (MapsOfTheBatch, 'the attention map of sample 7 alone'),
    (LongMaps, 'kept as float16, which does not hold'),
    (NothingHidden, 'no gradient reaches neck.mask_token'),
    (SeesAll, 'with other pixels in masked patches the prediction changes'),
    (SeesThrown, 'with other pixels in thrown patches the prediction changes'),
    (VisiblePatchesScored, 'does not change with the pixels of masked')])
def test_broken_strategies(kind, message):
    with pytest.raises(ContractError, match=message):
        check_masking_contract(remade(tiny_pretraining(), kind))


class ClassifierSeesAll(MSMAEClassifier):
    def loss(self, inputs, data_samples):
        self.partition(inputs, data_samples)
        return self.head.loss(self._features(inputs, None), data_samples)


@pytest.mark.parametrize('masking', MASKINGS)
def test_a_classifier_that_sees_what_is_left_out(masking):
    with pytest.raises(ContractError, match='with other pixels in masked '
                       'patches the loss changes, so something sees them'):
        check_masking_contract(remade(tiny_classifier(masking=masking),
                                      ClassifierSeesAll))


class AnyIndex(Drawn):
    def noise(self, data_samples):
        return torch.stack([torch.rand(24, generator=torch.Generator(
        ).manual_seed(
            1000 * MessageHub.get_current_instance().get_info('iter')
            + 100 * MessageHub.get_current_instance().get_info('seed')
            + sample.get('sample_idx', 50))) for sample in data_samples])


class Attribute(AnyIndex):
    def noise(self, data_samples):
        assert all(sample.sample_idx >= 0 for sample in data_samples)
        return super().noise(data_samples)


@pytest.mark.parametrize(('kind', 'message'), [
    (AnyIndex, 'a sample without sample_idx is accepted'),
    (Attribute, 'needs a ValueError that names it, got AttributeError')])
def test_samples_without_an_index(kind, message):
    with pytest.raises(ContractError, match=message):
        check_masking_contract(remade(tiny_pretraining(), kind))


def test_how_far_an_image_may_miss_the_ratios():
    check_masking_contract(remade(tiny_pretraining(), OneMore), tolerance=1)


class InvertedViews(CMIMDataPreprocessor):
    def training_inputs(self, images, data_samples):
        inputs = super().training_inputs(images, data_samples)
        return inputs | dict(mask=1 - inputs['mask'])


class BooleanViews(CMIMDataPreprocessor):
    def training_inputs(self, images, data_samples):
        inputs = super().training_inputs(images, data_samples)
        return inputs | dict(mask=inputs['mask'].bool())


class SoftViews(CMIMDataPreprocessor):
    def training_inputs(self, images, data_samples):
        inputs = super().training_inputs(images, data_samples)
        return inputs | dict(mask=inputs['mask'] / 2)


class FlatViews(CMIMDataPreprocessor):
    def training_inputs(self, images, data_samples):
        inputs = super().training_inputs(images, data_samples)
        return inputs | dict(mask=inputs['mask'].flatten(1))


class OneView(CMIMDataPreprocessor):
    def training_inputs(self, images, data_samples):
        inputs = super().training_inputs(images, data_samples)
        return inputs | dict(mask=inputs['mask'][:1].expand(
            len(images), -1, -1, -1))


@pytest.mark.parametrize(('kind', 'message'), [
    (InvertedViews, '5 of 16 patches of sample 7 are masked, but the ratios '
     'say 11. That many should be visible: is the mask inverted'),
    (BooleanViews, 'the mask is torch.bool, expected torch.float32'),
    (SoftViews, 'the mask has other values than 0'),
    (FlatViews, r'shape \(6, 16\), expected \(6, 1, 4, 4\)'),
    (OneView, 'the samples .* of a batch share 1 mask in each of 8')])
def test_broken_masks_of_views(kind, message):
    model = tiny_model()
    remade(model.data_preprocessor, kind)
    with pytest.raises(ContractError, match=message):
        check_masking_contract(model)


class LeakCMIM(CMIM):
    """The encoder sees the whole query; the mask is for the loss alone."""

    def encode(self, images, mask):
        whole = super().encode(images, torch.zeros_like(mask))
        masked = super().encode(images, mask)
        return tuple(one + 1e-3 * other
                     for one, other in zip(whole, masked, strict=True))


class VisibleScored(CMIM):
    def target_weight(self, inputs, theta):
        return 1 - super().target_weight(inputs, theta)


class AllScored(CMIM):
    def target_weight(self, inputs, theta):
        return torch.ones_like(super().target_weight(inputs, theta))


@pytest.mark.parametrize(('kind', 'message'), [
    (LeakCMIM, 'with other pixels in masked patches of the query the loss'),
    (VisibleScored, 'does not change with the pixels of the key where the'),
    (AllScored, 'with other pixels of the key where the query is visible')])
def test_broken_losses_of_views(kind, message):
    with pytest.raises(ContractError, match=message):
        check_masking_contract(remade(tiny_model(), kind))


def test_what_is_not_a_model_that_masks():
    with pytest.raises(ContractError, match='Linear has neither partition'):
        check_masking_contract(torch.nn.Linear(2, 2))
