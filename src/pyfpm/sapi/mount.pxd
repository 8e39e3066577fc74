cpdef tuple mount_of(dict params, program=*)
