"""The process: its loop, and the parts that are put together around it. A thin shell; what it decides is decided in
the packages below.
"""
