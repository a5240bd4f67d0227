"""Latency by the picture itself: a marker goes in at the source and is read at the outputs."""
