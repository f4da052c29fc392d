"""Arrays on disk: OME-Zarr stores, boxes and blocks, batches and their records."""
