"""The room of the queues. Import them from `f1buf`: ``from f1buf import Queue, LifoQueue, PriorityQueue``.

`queue` has the classes; `classic` is what they do by the standard library's own algorithm.
"""
