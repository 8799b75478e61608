"""The process that answers at one listener of the status endpoint, confined.  See docs/status.md."""
