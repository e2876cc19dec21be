"""Label Studio as a labelling tool: samples are sent as tasks, answers come back as a JSON export.

Both go by files, which needs only the standard library, or by the server's REST interface, which needs httpx. Written
against Label Studio 1.23.2.
"""
