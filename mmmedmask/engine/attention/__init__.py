"""The life of an attention map: made, stored, used, drawn, measured."""
