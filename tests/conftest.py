"""What all tests share."""

from hypothesis import settings

# No test asserts a time, and a busy machine is no failure.
settings.register_profile("tessera", deadline=None)
settings.load_profile("tessera")
