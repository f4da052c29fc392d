"""Raw data as it comes: Data Exchange, NXtomo, TIFF, HDF5, Zarr.

:func:`open_scan` reads a raw scan by rows, :func:`open_source` a volume by boxes; both take what
they need from the file and no more, so files larger than memory are no matter.
"""

from tessera.formats.frame import nominal_frame
from tessera.formats.scan import Scan, ScanHeader, open_scan, scan_header
from tessera.formats.source import Source, open_source

__all__ = [
    "Scan",
    "ScanHeader",
    "Source",
    "nominal_frame",
    "open_scan",
    "open_source",
    "scan_header",
]
