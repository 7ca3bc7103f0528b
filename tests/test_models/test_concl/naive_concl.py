"""One step of ConCL in loops over images and concepts, in float64."""

import numpy as np
import torch
from test_functional import naive_concepts as naive

from mmmedmask.functional.concepts import random_cells
from mmmedmask.functional.randomness import per_sample_uniform, stream_seed


def project(neck, feature):
    """One feature through a neck, to unit length."""
    first, _, second = neck.mlp
    hidden = feature @ first.weight.T + first.bias
    return naive.unit((hidden.clamp(min=0) @ second.weight.T +
                       second.bias).detach().numpy())


def naive_step(model, inputs, samples, step=0):
    """Losses, shared concepts per tile, and the keys that enter the queues.

    ``model`` is the one after the step, with the queues from before it in
    ``inputs``, because the momentum encoder moves first.
    """
    key_encoder, key_neck = model.key_encoder.module
    query_maps = model.backbone(inputs['query'])[-1].detach()
    key_maps = key_encoder(inputs['key'])[-1]
    references = key_encoder(inputs['reference'])[0].numpy()
    temperature = model.head.temperature
    instance, concept, pairs = [], [], []
    instance_keys, concept_keys = [], []
    for index, sample in enumerate(samples):
        query = project(model.neck, query_maps[index].mean(dim=(1, 2)))
        key = project(key_neck, key_maps[index].mean(dim=(1, 2)))
        instance.append(naive.contrast(
            query, key, inputs['instance_queue'].numpy(), temperature))
        instance_keys.append(key)
        height, width = references.shape[2:]
        uniform = per_sample_uniform(stream_seed(0, 'concepts'), step,
                                     [sample.sample_idx], height * width)
        labels, _ = naive.kmeans(
            references[index].reshape(-1, height * width).T,
            random_cells(uniform, model.num_concepts)[0].tolist(),
            model.kmeans_iterations)
        labels = np.array(labels).reshape(height, width)
        pairs.append(0)
        for label in range(model.num_concepts):
            prototypes = []
            for maps, theta in ((query_maps, inputs['theta_query']),
                                (key_maps, inputs['theta_key'])):
                carried = naive.carry(labels, model.num_concepts,
                                      theta[index].double().numpy(),
                                      tuple(maps.shape[2:]))
                prototypes.append(naive.pool(maps[index].numpy(), carried,
                                             label))
            if any(prototype is None for prototype in prototypes):
                continue
            query, key = (
                project(neck, torch.from_numpy(prototype))
                for neck, prototype in zip((model.neck, key_neck), prototypes,
                                           strict=True))
            concept.append(naive.contrast(
                query, key, inputs['concept_queue'].numpy(), temperature))
            concept_keys.append(key)
            pairs[-1] += 1
    return dict(instance=np.mean(instance), concept=np.mean(concept),
                pairs=pairs, instance_keys=instance_keys,
                concept_keys=concept_keys)
