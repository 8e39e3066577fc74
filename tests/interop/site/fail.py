"""A bug."""

raise RuntimeError("the reason is for the log, not for the visitor")
