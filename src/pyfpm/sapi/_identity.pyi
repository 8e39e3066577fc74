class FileIdentity:
    """An open file as it is now: device, inode, size, times of modification and change.

    The time of change is in it because a file that was moved elsewhere keeps all the others.

    Raises:
      OSError: ``fd`` is not an open descriptor.
    """

    def __init__(self, fd: int) -> None: ...
    def is_at(self, path: bytes) -> bool:
        """Whether ``path`` (links are followed) leads to this file, unchanged. False too if it leads nowhere."""
