"""Pictures: reconstruction panels, overlays, reports."""
