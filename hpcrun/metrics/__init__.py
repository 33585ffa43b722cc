"""What runs measured: the lines that they write, and what can be made of them."""
