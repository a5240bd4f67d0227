"""What every kernel is run on: one module an op, each with `cases() -> list[Case]`."""
