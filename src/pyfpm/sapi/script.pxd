from pyfpm.sapi.current cimport CurrentRequest
from pyfpm.sapi.script_file cimport Script, ScriptFiles


cdef class ScriptAdapter:
    cdef ScriptFiles _files
    cdef object _log
    cdef object _settings
    cdef object _cgi
    cdef object _revalidation
    cdef object _around
    cdef object _authorizer
    cdef object _streams
    cdef _ProcessState _process
    cdef bint _starts_sessions
    cdef bint _shares_process

    cdef _refuse(self, output, status)
    cdef _run(self, Script script, CurrentRequest current)
    cdef _at_end(self, stage, CurrentRequest current, status)
    cdef _status_of(self, error, CurrentRequest current)
    cdef _report(self, error, output, CurrentRequest current, bint takes_a_message=*)
    cdef _refuse_body(self, error, CurrentRequest current)
    cdef _failed(self, error, CurrentRequest current)


cdef class _ProcessState:
    cdef list _path
    cdef dict _environ
    cdef int _umask
    cdef Script _for
    cdef object _live_environ
    cdef int _recursion_limit
    cdef bint _collects

    cpdef restore(self, Script script)
    cpdef restore_environment(self)


cdef class _SharedProcessState(_ProcessState):
    cdef object _beside

    cpdef restore(self, Script script)
    cpdef restore_environment(self)
