"""What operators see: the log, what workers say, the scoreboard and the status pages."""
