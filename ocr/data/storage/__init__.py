"""Where the files of a set lie: a folder of this machine, or a place that fsspec knows, with a cache on disk."""
