"""Closing of a driver."""

import anyio

from bringup.daemon import closing
from bringup.daemon.logs import get_logger
from bringup.drivers.base import Driver

log = get_logger()

CLOSE_S = closing.DRIVER_S


async def close_driver(driver: Driver) -> None:
    """Close a driver; one that hangs or fails must neither keep the process nor change its exit code."""
    with anyio.move_on_after(CLOSE_S, shield=True) as scope:
        try:
            await driver.close()
        except Exception:
            log.exception("driver.not_closed")
    if scope.cancelled_caught:
        log.error("driver.not_closed", deadline_s=CLOSE_S)
