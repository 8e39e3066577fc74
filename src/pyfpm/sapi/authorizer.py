"""Scripts that decide whether a request may go on. Source: FastCGI 1.0, 6.3 "Authorizer"."""

from __future__ import annotations

from pyfpm.sapi.script_file import NotRunnable, Script, ScriptFiles


class AuthorizerFile:
    """``authorizer_file``: the script that decides about all requests of an AUTHORIZER.

    SCRIPT_FILENAME is there what the visitor asks for. Were that run, every script would let its own visitors in.

    Args:
      path: the operator's choice, so it may be anywhere and have any name; None if there is none.
    """

    def __init__(self, path: str | None) -> None:
        self._files = ScriptFiles((), ("",))
        self._path = path

    def find(self) -> Script:
        """Raises NotRunnable when it is not there, and what ``ScriptFiles.find`` does."""
        if self._path is None:
            raise NotRunnable("it is for an authorizer, and authorizer_file is not set")
        path = self._path.encode("utf-8", "surrogateescape").decode("latin-1")
        try:
            return self._files.find({"SCRIPT_FILENAME": path})
        except NotRunnable as refused:
            # It begins with the name of the parameter that it was looked for by.
            reason = str(refused).rpartition(": ")[2]
            raise NotRunnable(f"authorizer_file = {self._path!r} cannot run: {reason}") from None
