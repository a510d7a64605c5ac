"""Which items go together into which forward passes, and their computing beside the loop: the planner, the compute
thread, what comes of it by row, and the cache of such results.
"""
