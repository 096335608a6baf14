"""What is written down: the deployment in progress, the journal, manifests, receipts, versions."""
