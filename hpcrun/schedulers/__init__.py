"""Three verbs: submit one job, query many, cancel."""
