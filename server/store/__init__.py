"""What the server remembers: numbered migrations over one SQLite file in `$HYBR_DATA`."""
