"""The Placement API over httpx, as far as a compute host needs it at start.

Nothing here imports the daemon or a driver.
"""
