"""Settings for all tests."""

from hypothesis import settings

# Property tests share two cores with whatever else runs: slow is not wrong.
settings.register_profile("lsd", deadline=None, max_examples=50)
settings.load_profile("lsd")
