"""The proof of the kernels without a card: assemble, count, execute, mutate."""
