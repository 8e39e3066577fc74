from pyfpm.sapi.current cimport CurrentRequest, current
from pyfpm.sapi.headers cimport check_value, header_line
from pyfpm.sapi.response cimport ScriptResponse
