"""Labels and events become training rows."""
