"""The flat index of a set: its checks, its report, its cache."""
