"""One typed result and its ledger; the services' wire formats."""
