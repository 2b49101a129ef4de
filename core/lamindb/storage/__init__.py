"""Objects: where they lie, their hashes, how they are written, moved and fetched.

Everything goes through fsspec, so a folder, S3 and any other store work by the same code. Knows
nothing of records.
"""
