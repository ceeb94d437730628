"""The ledger: the only way to change a balance.

commands    what the ledger is told and what it answers, as plain structs         pure
kernel      one function from the books and a command to the changed books        pure
batch       a batch of commands as SQL: what to read, how to decide, what to write    pure
books       one batch in a transaction of Django's: admin, Celery, commands
writer      the gateway's way: group commit of many calls on a connection of its own
"""
