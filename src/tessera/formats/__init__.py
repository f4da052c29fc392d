"""Raw data as it comes: Data Exchange, NXtomo, TIFF, HDF5, Zarr."""
