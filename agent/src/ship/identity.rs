//! Who this gateway is on the wire, and whom it believes.

use headwater_core::id::{BootId, BootOrdinal, DevicePath, Epoch};
use headwater_core::wire::SigningKey;
use headwater_core::wire::chain::FleetRoots;
use std::sync::Arc;

/// Names, keys and roots, fixed while the process runs.
#[derive(Debug, Clone)]
pub struct ShipIdentity {
    /// Tenant and device, as in the certificate.
    pub path: DevicePath,
    /// Life of the spool.
    pub epoch: Epoch,
    /// This boot.
    pub boot_ordinal: BootOrdinal,
    /// The kernel's name for it.
    pub boot_id: BootId,
    /// Signs every message.
    pub key: Arc<SigningKey>,
    /// Signing chain, leaf first, DER.
    pub chain: Vec<Vec<u8>>,
    /// Roots the collector's chain must end in.
    pub roots: FleetRoots,
    /// Name and version, for people.
    pub software: String,
}
