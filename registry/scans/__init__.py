"""Folders of the user's, registered where they lie: scanned, hashed in the background, never written to."""
