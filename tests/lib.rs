//! Shared parts of the end-to-end scenarios, the demo and the measurements.
