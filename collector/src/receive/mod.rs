//! Receive: MQTT in, checked, staged, landed and acknowledged.
pub mod clock;
