cpdef tuple mount_of(dict params, program=*)
cpdef tuple mount_of_authorizer(dict params)
