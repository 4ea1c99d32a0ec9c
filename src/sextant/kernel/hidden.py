"""The words for texts that may quote personal columns, and are hidden from most people."""

# What stands for a text that is shown to administrators only.
HIDDEN = "hidden: it may quote personal columns; an administrator can read it"
# Parts of an event that hold what code, checks or libraries said. `reason` is a person's, but where
# a release was stopped: there it quotes a check, or an error. A `comment` on an incident is hidden
# like the incident's title: people paste errors into it.
TEXTS = (
    "message", "error", "hint", "measured", "evidence", "title", "refused", "samples", "comment",
)  # fmt: skip
STOPPED = ("rejected", "stuck", "paused", "undoing", "rolled_back")
