"""What can be said of a run before it is submitted: findings, limits, scripts. No I/O."""
