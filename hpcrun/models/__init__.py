"""What is run, where, and how: frozen, validated descriptions without any I/O."""
