"""What a training and a test spend their time on, and what other implementations need for the same work."""
