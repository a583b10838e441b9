"""How transferable is each layer? Yosinski et al. 2014 for any net and any task."""
