//! (module map follows)
#![no_std]
