"""What an answer costs and who may still have one: prices, limits, budgets, and the ledger they are read from.

Amounts are whole nano-dollars (1e-9 USD) everywhere but at the edges: sums of floats do not equal a calculation by hand.
"""
