"""The house around the rooms: settings, the front door with its two lanes, the dashboard, the operator's pages."""
