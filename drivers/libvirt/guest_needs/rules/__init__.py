"""What a guest needs, read and judged from values.  Pure: no I/O, no clock, no logger."""
