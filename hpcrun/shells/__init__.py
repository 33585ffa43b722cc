"""How hpcrun starts other programs: one protocol, whatever the machine."""
