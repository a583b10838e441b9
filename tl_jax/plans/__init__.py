"""How to transfer: phases, and the strategies that make them."""
