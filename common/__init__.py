"""What no room owns. Imports nothing of ours."""
