"""Credits given and taken by other hands than a call's: accounts, operators' acts, credit that expires, vouchers."""
