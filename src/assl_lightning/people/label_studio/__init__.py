"""Label Studio: what people are asked goes there as tasks, what they answered comes back as a JSON export.

By files, which needs nothing but the standard library, or by the server's REST interface with httpx. Written against
Label Studio 1.23.2.
"""
