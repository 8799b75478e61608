"""Where the operator's credentials are: in our own settings, in clouds.yaml, in ``OS_*``, or in nova.conf."""

from bringup.daemon.settings.credentials.placement_access import Access, access_of

__all__ = ["Access", "access_of"]
