"""One test origin for all tests of a module."""

from tests.kit.origin import module_origin

__all__ = ["module_origin"]
