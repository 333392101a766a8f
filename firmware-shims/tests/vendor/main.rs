//! Decoders of vendors' protocols against documented, captured and hostile bytes.

mod documented;
mod hostile;
mod kit;
mod recorded;
mod specs;
mod vectors;
