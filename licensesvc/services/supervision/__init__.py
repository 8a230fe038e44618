"""Service supervision (服务监管): events, proofs, standards, deadlines."""
