"""POSIX access control lists of a unix socket (listen.acl_users, listen.acl_groups), as the kernel stores them.

The standard library can set extended attributes, and an access list is one: a version, then entries of tag, permissions
and id, in this order of tags. Source: <linux/posix_acl_xattr.h>, acl(5).
"""

from __future__ import annotations

import grp
import os
import pwd
import struct
from collections.abc import Sequence

_ATTRIBUTE = "system.posix_acl_access"
_VERSION = 2
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
READ_WRITE = 6  # what it takes to connect is write; read comes with it, as in mode 0660


def user_id(name: str) -> int:
    """A user's id by name, or by number. Raises KeyError."""
    return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid


def group_id(name: str) -> int:
    """A group's id by name, or by number. Raises KeyError."""
    return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid


def set_access(path: str, mode: int, users: Sequence[str], groups: Sequence[str]) -> None:
    """Let these users and groups in, beside what the mode says of the owner and everybody else.

    Raises:
      OSError: the file system has no access control lists, or the file isn't ours.
      KeyError: there is no such user or group.
    """
    entries = [
        (_USER_OBJ, mode >> 6 & 7, _NO_ID),
        *sorted((_USER, READ_WRITE, user_id(name)) for name in users),
        (_GROUP_OBJ, mode >> 3 & 7, _NO_ID),
        *sorted((_GROUP, READ_WRITE, group_id(name)) for name in groups),
        (_MASK, READ_WRITE | mode >> 3 & 7, _NO_ID),
        (_OTHER, mode & 7, _NO_ID),
    ]
    value = struct.pack("<I", _VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, _ATTRIBUTE, value)
