"""Models under traffic: which model computes a request (`routing`), how what `control.deployments` asks for is loaded
and switched to without a gap, and the faults that `control.drills` asks for.
"""
