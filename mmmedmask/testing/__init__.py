"""Contract tests of new backbones, aggregators and masking strategies."""
