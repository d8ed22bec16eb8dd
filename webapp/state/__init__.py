"""What outlives a page: preferences, behind a storage Protocol."""
