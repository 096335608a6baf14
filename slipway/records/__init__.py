"""Records on disk and their types: the open deployment, the journal, manifests, receipts, owners, versions, phases."""
