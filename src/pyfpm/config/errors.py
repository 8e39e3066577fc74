"""What is said of a configuration that cannot be used."""

from __future__ import annotations


class ConfigError(Exception):
    """The configuration cannot be used; nothing has been started.

    Attributes:
      message: what was wrong and where: ``[FILE:LINE] ...`` or ``[pool NAME] ...``, in php-fpm's words if it has any.
      hint: what would be right, where ``message`` does not say it.
      level: of the log line, ``ERROR`` or ``ALERT`` (php-fpm's choice).
      trail: php-fpm's further lines, from the inside out: which file was included from where, which one failed to load.
    """

    def __init__(self, message: str, *, hint: str = "", level: str = "ERROR", trail: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.level = level
        self.trail = trail

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def followed_by(self, line: str) -> ConfigError:
        """The same error, seen from one room further out."""
        return ConfigError(self.message, hint=self.hint, level=self.level, trail=(*self.trail, line))

    def lines(self) -> list[tuple[str, str]]:
        """(level, message) for each line of the log: php-fpm's, in its order. The hint belongs behind them all."""
        return [(self.level, self.message), *(("ERROR", line) for line in self.trail)]
