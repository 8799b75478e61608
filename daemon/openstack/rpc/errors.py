"""Errors of remote procedure calls.

::

    RpcError
      RpcUnavailable     it did not get through, and a later call may
        NoListener    the broker is available, and has no queue for the message
        Unanswered       it was sent, and no answer came: whether it was carried out is not known
      RemoteError        it was carried out there, and failed
      Unreadable         the answer is not one that this version understands
"""


class RpcError(Exception):
    """A remote procedure call without a result."""


class RpcUnavailable(RpcError):
    """The broker or the service is unavailable."""


class NoListener(RpcUnavailable):
    """Nothing was sent: no service has bound a queue for this."""


class Unanswered(RpcUnavailable):
    """A message was sent, and there was no reply."""


class RemoteError(RpcError):
    """The remote method raised."""

    def __init__(self, remote_class: str, message: str) -> None:
        """Store the name of the class, such as ``InstanceNotFound``, and its message."""
        super().__init__(f"{remote_class}: {message}" if message else remote_class)
        self.remote_class = remote_class


class Unreadable(RpcError):
    """A reply has a version or a shape that is not supported."""
