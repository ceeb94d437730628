"""What it costs. The packages are the rooms of this app; models, tasks and commands are its face."""
