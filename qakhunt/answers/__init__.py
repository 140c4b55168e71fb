"""One typed result and the account of it; the services' wire formats."""
