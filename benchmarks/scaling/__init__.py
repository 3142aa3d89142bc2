"""What autoscalers cost and keep, on public traces."""
