"""Networks, one file each: pure torch, no input or output."""
