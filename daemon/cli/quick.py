"""What makes a start quick: a booting host waits for it."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import what the block imports with less work, about a quarter of it.

    Imports make objects and drop hardly any: the collector would look through them again and again for nothing.
    structlog imports rich's printer of tracebacks wherever rich is installed: ours are not printed that way, and rich
    is imported later, for a person at a terminal only.
    """
    hides_rich = "structlog" not in sys.modules and "rich" not in sys.modules
    collects = gc.isenabled()
    gc.disable()
    if hides_rich:
        sys.modules["rich"] = None  # type: ignore[assignment]  # Python's way to say "not there"
    try:
        yield
    finally:
        if hides_rich:
            del sys.modules["rich"]
        if collects:
            gc.enable()
