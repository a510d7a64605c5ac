"""How many workers the group needs, and why: from its lag, from what arrives and from the pace of this one."""
