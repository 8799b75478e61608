"""What every fuzzer has."""

from collections.abc import Callable, Iterator

import pytest

from support.fuzzing import PROPERTY, Border


@pytest.fixture
def border(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Iterator[Border]:
    """Count how inputs end; the name of the border is the module's ``BORDER``."""
    counted = Border(request.module.BORDER)
    yield counted
    counts = {"read": counted.read, "refused": counted.refused, "otherwise": counted.otherwise}
    record_property(PROPERTY, {"border": counted.name, **counts})
