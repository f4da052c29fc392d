"""The sections of ``config.yaml``, one frozen model a stage; read through :mod:`tessera.config`."""
