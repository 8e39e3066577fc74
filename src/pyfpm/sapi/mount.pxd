cpdef tuple mount_of(dict params)
cpdef tuple mount_of_program(dict params, str program)
cpdef tuple mount_of_authorizer(dict params)
