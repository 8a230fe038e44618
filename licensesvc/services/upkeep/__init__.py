"""Keeping an installation sound: backup, keys, audit, erasing, pruning, readiness, figures."""
