"""What every folder needs: nothing here imports the rest of the package."""
