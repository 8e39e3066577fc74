"""What the operator wants, checked. Nothing here runs anything."""

from pyfpm.config.pool import ConfigError, PoolConfig

__all__ = ["ConfigError", "PoolConfig"]
