"""Sweeps: many trainings from one command, their study, their workers, their ranking."""
