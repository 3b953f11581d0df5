"""The test origin, for what is tested with real processes."""

from tests.kit.origin import origin

__all__ = ["origin"]
