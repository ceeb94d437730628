"""The conversation with providers. The packages are the rooms of this app; models and tasks are its face."""
