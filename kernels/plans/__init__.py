"""How every kernel is launched: one module an op, pure arithmetic on shapes."""
