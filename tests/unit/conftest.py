"""The fast tests draw fewer examples; ``make fuzz`` and ``make prove`` look for the rare ones."""

from hypothesis import settings

settings.register_profile("fast", max_examples=40)
settings.load_profile("fast")
