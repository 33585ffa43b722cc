"""What can be said of a run before it is submitted: findings, limits, scripts. Pure but for git."""
