"""One worker process: the reactor, and the executors that run what it reads.

``zygote`` is the program that imports the application and forks workers; ``serve`` is what a worker does from then on.
"""
