"""Everything with side effects: files, processes, tracking, the command line."""
