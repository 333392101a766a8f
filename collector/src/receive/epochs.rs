//! How many epochs of one device the receiver keeps state of. A device has one, and another after its card was wiped or
//! replaced; one that invents them would otherwise fill our memory.

use super::reassemble::DeviceEpoch;
use headwater_core::id::{DevicePath, Epoch};
use std::collections::HashMap;

/// Epochs kept per device, the newest heard: a fleet that is serviced wipes a card a few times within the retention of
/// its landing logs. What is forgotten is in the log and the lake; its device is asked for a hello when it comes back,
/// and sends again what it still holds, which the ledger knows.
pub const EPOCHS_PER_DEVICE_MAX: usize = 16;

/// Epochs by device, the longest idle first.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    devices: HashMap<DevicePath, Vec<Epoch>>,
    forgotten: u64,
}

impl Epochs {
    /// An epoch is heard of. Gives the one that is to be forgotten for it, if that is one too many.
    pub(super) fn heard(&mut self, owner: &DeviceEpoch) -> Option<DeviceEpoch> {
        let Some(epochs) = self.devices.get_mut(&owner.0) else {
            self.devices.insert(owner.0.clone(), vec![owner.1]);
            return None;
        };
        if epochs.last() == Some(&owner.1) {
            return None;
        }
        match epochs.iter().position(|epoch| *epoch == owner.1) {
            Some(at) => drop(epochs.remove(at)),
            None if epochs.len() >= EPOCHS_PER_DEVICE_MAX => {
                let gone = epochs.remove(0);
                epochs.push(owner.1);
                self.forgotten = self.forgotten.saturating_add(1);
                return Some((owner.0.clone(), gone));
            }
            None => {}
        }
        epochs.push(owner.1);
        None
    }

    /// Epochs forgotten so far.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receive::testkit::path;

    #[test]
    fn the_longest_idle_goes_and_no_other_devices() {
        let mut epochs = Epochs::default();
        let of = |name: &str, n: u64| (path(name), Epoch(n));
        let max = EPOCHS_PER_DEVICE_MAX as u64;
        assert_eq!(epochs.heard(&of("pi-2", 7)), None);
        for n in 0..max {
            assert_eq!(epochs.heard(&of("pi-1", n)), None);
        }
        // The oldest speaks again: the second oldest is the idle one now.
        assert_eq!(epochs.heard(&of("pi-1", 0)), None);
        assert_eq!(epochs.heard(&of("pi-1", 0)), None);
        assert_eq!(epochs.heard(&of("pi-1", max)), Some(of("pi-1", 1)));
        assert_eq!(epochs.heard(&of("pi-1", 1)), Some(of("pi-1", 2)), "one that comes back is a new one");
        assert_eq!((epochs.heard(&of("pi-2", 7)), epochs.forgotten()), (None, 2));
        for n in 100..100_000 {
            epochs.heard(&of("pi-1", n));
        }
        assert_eq!(epochs.devices[&path("pi-1")].len(), EPOCHS_PER_DEVICE_MAX);
    }
}
