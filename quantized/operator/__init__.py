"""The operator's pages: Django's admin in unfold's clothes, at ADMIN_PATH.

Lists and forms are the admin's; what moves money or changes prices is a command form of its own, and the services of
the rooms do the work. The books, usage and the audit log can be looked at here, and nothing else.
"""
