"""What a function that asks for `sx.Context` receives. Light, because the author's file names
it."""

from sextant.kernel.nouns import WorkOrder


class Context:
    """What a step may ask about its own run. `key` is the same for every attempt: hand it to
    effects that can take an idempotency key."""

    def __init__(self, order: WorkOrder, partition: str) -> None:
        self.run = order.run
        self.asset = order.asset.id
        self.partition = partition
        self.attempt = order.attempt
        self.key = f"{order.run}/{order.step}/{partition}"
