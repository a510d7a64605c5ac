"""Everything on this machine with one command: starts, watches, accounts for and stops the processes."""
