"""Where the folders of runs are, and how they are filled and looked into: here, or on another machine."""
