"""recon: one raw scan to one reconstructed tile of linear attenuation in 1/cm."""
