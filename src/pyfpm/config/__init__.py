"""What the operator wants, checked. Nothing here runs anything.

``load`` reads a file in php-fpm.conf's syntax, ``from_command_line`` does without one; both give a frozen ``Config``,
or raise ``ConfigError``. The fields of ``MainConfig`` and ``PoolConfig`` are the table of directives, which the parser,
``dump`` and the documentation are made from.
"""

from pyfpm.config.config import Config, StartOptions
from pyfpm.config.dump import dump
from pyfpm.config.errors import ConfigError
from pyfpm.config.load import from_command_line, load
from pyfpm.config.main import MainConfig
from pyfpm.config.pool import PoolConfig

__all__ = ["Config", "ConfigError", "MainConfig", "PoolConfig", "StartOptions", "dump", "from_command_line", "load"]
