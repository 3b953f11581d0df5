"""The test origin, for what is tested with real processes."""

from tests.kit.origin import module_origin

__all__ = ["module_origin"]
