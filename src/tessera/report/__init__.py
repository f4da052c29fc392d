"""One self-contained page of all that a run made, and scenes for the viewers."""
