"""Guests of 512 bytes: what each does when it is started.  All run on QEMU's ``pc`` without an operating system."""

from typing import Final

SIZE: Final = 512

# cli; loop: hlt; jmp loop
IGNORES_ACPI: Final = bytes.fromhex("fa f4 eb fd")
# sti; out 0x602 (PM1 enable), 0x100 (power button); loop: hlt; in ax, 0x600 (PM1 status); not pressed: loop;
# out 0x604 (PM1 control), 0x2000 (S5); jmp $
OBEYS_ACPI: Final = bytes.fromhex("fb ba 02 06 b8 00 01 ef f4 ba 00 06 ed f6 c4 01 74 f6 ba 04 06 b8 00 20 ef eb fe")
# out 0x505 (pvpanic), 1; jmp halt
PANICS: Final = bytes.fromhex("ba 05 05 b0 01 ee fa f4 eb fd")
# The byte at 0x600 says that it has slept: woken up it is started anew, with what is in memory.  0x5a: halt;
# set it; out 0x604, 0x2400 (S3); halt
FALLS_ASLEEP: Final = bytes.fromhex("31 c0 8e d8 80 3e 00 06 5a 74 0c c6 06 00 06 5a ba 04 06 b8 00 24 ef fa f4 eb fd")

_FIRMWARE_SIZE, _FIRST = 1 << 18, -16


def firmware(code: bytes) -> bytes:
    """Make a BIOS that is this code alone, which starts in 16-bit mode: no disk is looked at, and nothing set up."""
    return (bytes(_FIRMWARE_SIZE + _FIRST) + code).ljust(_FIRMWARE_SIZE, b"\0")


def image(code: bytes) -> bytes:
    """Make a disk of one sector that the BIOS starts."""
    return code.ljust(SIZE - 2, b"\0") + b"\x55\xaa"
