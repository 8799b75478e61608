"""What may come of a remote procedure call, other than its result.

::

    RpcError
      RpcUnavailable     it did not get through, and a later call may
        NoListener    the broker is there, and has nobody to hand the message to
        Unanswered       it was sent, and no answer came: whether it was carried out is not known
      RemoteError        it was carried out there, and failed
      Unreadable         the answer is not one that this version understands
"""


class RpcError(Exception):
    """A remote procedure call did not give a result."""


class RpcUnavailable(RpcError):
    """The broker, or whoever should answer, is away."""


class NoListener(RpcUnavailable):
    """Nothing was sent: no service has bound a queue for this."""


class Unanswered(RpcUnavailable):
    """A message went out, and its answer did not come."""


class RemoteError(RpcError):
    """The method raised there."""

    def __init__(self, remote_class: str, message: str) -> None:
        """Take the name of the class, such as ``InstanceNotFound``, and what it said."""
        super().__init__(f"{remote_class}: {message}" if message else remote_class)
        self.remote_class = remote_class


class Unreadable(RpcError):
    """An answer names a version, or has a shape, that this version does not read."""
