"""The search: from a degraded target to the latent whose image looks like it."""
