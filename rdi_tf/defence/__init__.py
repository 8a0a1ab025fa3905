"""How a network is trained to withstand attacks: the train_step (model.py), its loss, and what may be added to them."""
