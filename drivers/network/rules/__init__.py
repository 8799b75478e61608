"""What should be on the network, computed from values.  Pure: no I/O, no clock, no logger."""
