"""Cases as test parameters, marked with the sections they show."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from _pytest.mark.structures import ParameterSet

from tests.rules.story import Case


def parameters(cases: Iterable[Case]) -> list[ParameterSet]:
    return [pytest.param(case, id=case.id, marks=pytest.mark.rfc(*case.rules.split())) for case in cases]
