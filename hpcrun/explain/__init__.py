"""Words instead of exit codes: what is known of a run goes in, why it is as it is comes out. No I/O."""
