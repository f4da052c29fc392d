"""Training: volumes and labels to one model bundle, alone or on N Horovod ranks."""
