"""Service supervision (服务监管): events, proofs, deadlines, money, the delivery pack and the page of the buyer."""
