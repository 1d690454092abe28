"""Image files as tensors: decoding them, loading, masks, resizing, and small JPEGs for pages."""
