"""What providers billed beside what was charged: abandoned holds, extra charges, losses, drift."""
