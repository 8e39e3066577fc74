from pyfpm.sapi.current cimport CurrentRequest, current
from pyfpm.sapi.response cimport ScriptResponse
