"""What the buyer sees: links, the page behind them, the delivery pack."""
