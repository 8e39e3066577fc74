def watch() -> None:
    """Begin to notice changes to the working directory and the environment, for the life of the process."""

def take_directory_changed() -> bool:
    """Whether the working directory may have been changed since the last call; True at first."""

def take_environment_changed() -> bool:
    """Whether a variable of the environment was set or deleted since the last call."""

def lend(environ: object, variables: dict[bytes, bytes]) -> None: ...
def take_back(environ: object, variables: dict[bytes, bytes]) -> None: ...
def clear_environment() -> None:
    """Take every variable from what C code and child processes see; os.environ is not told."""
