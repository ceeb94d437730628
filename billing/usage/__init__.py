"""What calls used: rows by month, roll-ups by hour, and all that is read from them."""
