"""Networks of lookup tables: from a trained model to truth tables, and to a file of them."""
