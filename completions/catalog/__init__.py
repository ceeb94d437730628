"""What can be asked for, where and at what price: tables, the file, the loader, price changes."""
