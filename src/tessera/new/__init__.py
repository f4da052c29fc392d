"""new: look at the data and write a config to start from."""
