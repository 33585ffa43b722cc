"""What a site says of itself, read, described as a site's file, and compared with one. No I/O."""
