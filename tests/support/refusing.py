"""A kernel that does not know a system call, or a container or a unit that refuses it: by a filter of the parent."""

import sys
from collections.abc import Sequence

REFUSE = """
import ctypes, os, struct, sys
steps = [(0x20, 0, 0, 0)]
refused, command = sys.argv[1].split(","), sys.argv[2:]
for each in refused:
    number, error, *value = map(int, each.split(":"))
    of_value = [(0x20, 0, 0, 16), (0x15, 0, 1, value[0]), (6, 0, 0, 0x50000 | error), (0x20, 0, 0, 0)] if value else []
    inner = of_value or [(6, 0, 0, 0x50000 | error)]
    steps += [(0x15, 0, len(inner), number), *inner]
steps.append((6, 0, 0, 0x7FFF0000))
program = b"".join(struct.pack("=HBBI", *step) for step in steps)
kept = ctypes.create_string_buffer(program, len(program))
described = struct.pack("@HP", len(steps), ctypes.addressof(kept))
assert ctypes.CDLL(None).prctl(22, 2, ctypes.c_char_p(described), 0, 0) == 0, "root may, without more"
os.execv(command[0], command)
"""


def refusing(*refused: str) -> Sequence[str]:
    """Return the start of a command line whose rest runs where calls are refused: ``number:errno[:argument]``."""
    return (sys.executable, "-c", REFUSE, ",".join(refused))
