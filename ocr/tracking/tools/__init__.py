"""Tools around recorded runs: doctor, sync, download, dashboard."""
