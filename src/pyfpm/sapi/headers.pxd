cdef dict _prefixes

cpdef str prefix_of(name)
cpdef check_value(name, value)
cpdef str header_line(name, value)
