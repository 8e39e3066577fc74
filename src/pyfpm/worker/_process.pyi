"""What Linux lets a process say about its children and its parent [prctl(2)]."""

def adopt_orphans() -> None:
    """Descendants whose parent ends become our children, for us to wait for; for the life of this process.

    Raises:
      OSError: the kernel refuses.
    """

def die_with_parent(signal: int) -> None:
    """Have the kernel send us ``signal`` when the thread that forked us ends, whatever we are doing then; 0: no longer.

    A fork does not inherit it, and a change of user or a set-user-ID program undoes it. Who may have lost the parent
    before the call has to look after it.

    Raises:
      OSError: there is no such signal; what was set before stays.
    """

def set_dumpable(dumpable: bool) -> None:
    """Whether a crash may leave a core file, and other processes of this user may look into us [PR_SET_DUMPABLE].

    Raises:
      OSError: the kernel refuses.

    Source: php-fpm's ``process.dumpable``.
    """

def fork_orphan() -> int:
    """As ``os.fork``, but the new process is the child of our subreaper (or of process 1) instead of ours.

    Returns:
      0 in the new process, its id in ours.
    Raises:
      OSError: there can be no more processes.
    """
