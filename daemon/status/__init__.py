"""Shows a run to people and machines: terminal, systemd, HTTP, metrics."""
