"""Image restoration by searching the latent space of a pretrained face GAN."""

import lazy_loader

__version__ = "0.2.0"

# Every name in __init__.pyi is imported on first use, with the libraries that it needs.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
