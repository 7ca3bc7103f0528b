"""Pure functions of tensors: no state, no registry, torch alone."""
