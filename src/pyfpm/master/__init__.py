"""The master: binds the sockets, has a zygote start workers, keeps them alive, and ends them.

It never imports user code, and is the only process that may be root.
"""
