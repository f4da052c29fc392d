"""tessera: from the raw tiles of a beamline to a segmented, counted, connected volume."""

__version__ = "0.1.0"
