"""Making a trained network smaller while it stays defended: quantisation-aware training, pruning, clustering."""
