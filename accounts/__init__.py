"""Who is calling, and what they may do: users, organizations, memberships, keys, tokens and sessions."""
