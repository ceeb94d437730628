"""What a tenant's people see when they are logged in: a module for each page, named as the page is."""
