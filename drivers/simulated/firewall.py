"""The firewall of the simulated host: guests whose rules are in place, and how many transactions that took."""


class Firewall:
    """Rules of guests, each applied at once or, while deferred, collected and applied as one transaction."""

    def __init__(self) -> None:
        """Start with no rules, applying at once."""
        self.deferred = False
        self.collected: set[str] = set()
        self.applied: set[str] = set()
        self.transactions = 0

    def add(self, uuid: str) -> None:
        """Put the rules of a guest in place, or collect them."""
        if self.deferred:
            self.collected.add(uuid)
            return
        self.applied.add(uuid)
        self.transactions += 1

    def defer(self) -> None:
        """Collect from now on."""
        self.deferred = True

    def apply(self) -> None:
        """Apply what was collected as one transaction, and each rule at once from now on."""
        self.deferred = False
        if self.collected:
            self.applied |= self.collected
            self.collected = set()
            self.transactions += 1
