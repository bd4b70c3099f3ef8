//! What a workflow, a step and a journal are, and what comes next: pure, without I/O, clock or randomness.
