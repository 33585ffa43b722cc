"""Python functions as runs: the call is pickled here, made in the job, and its result read here."""
