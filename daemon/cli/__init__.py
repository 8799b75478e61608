"""The command line: one module a command, each with ``add_to`` (its arguments) and ``execute`` (what it does).

Nothing that is heavy to import is imported before the command that needs it is known.
"""
