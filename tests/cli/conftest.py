"""The test origin, for what is tested end to end."""

from tests.kit.origin import origin

__all__ = ["origin"]
