"""The command line: thin. One file a command; each is loaded when it is typed."""
