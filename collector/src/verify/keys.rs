//! Signing certificates by serial, proven up to the fleet's root.

use headwater_core::id::DevicePath;
use headwater_core::time::UtcNanos;
use headwater_core::wire::chain::{FleetRoots, Role, Signer, verify_chain};
use std::collections::BTreeMap;

/// Certificates that messages were signed under.
#[derive(Debug)]
pub struct Keys {
    roots: FleetRoots,
    chains: BTreeMap<String, (Vec<Vec<u8>>, Role)>,
}

impl Keys {
    /// None yet, of a fleet with these roots.
    #[must_use]
    pub fn new(roots: FleetRoots) -> Self {
        Self { roots, chains: BTreeMap::new() }
    }

    /// Takes a chain as `ops.devices` keeps it: certificates (DER), leaf first, one after the other.
    pub fn add_device(&mut self, serial: &str, concatenated: &[u8]) {
        self.chains.entry(serial.to_owned()).or_insert_with(|| (split(concatenated), Role::Device));
    }

    /// Takes a collector's own chain: it signs cards that nobody signed.
    pub fn add_collector(&mut self, serial: &str, chain: &[Vec<u8>]) {
        self.chains.insert(serial.to_owned(), (chain.to_vec(), Role::Collector));
    }

    /// True if a certificate of this serial is known.
    #[must_use]
    pub fn knows(&self, serial: &str) -> bool {
        self.chains.contains_key(serial)
    }

    /// The certificate of a message of `device`, received at `received`.
    ///
    /// # Errors
    /// Why it proves nothing, for a person.
    pub fn signer(&self, serial: &str, device: &DevicePath, received: UtcNanos) -> Result<Signer, String> {
        let (chain, role) =
            self.chains.get(serial).ok_or_else(|| format!("certificate {serial} is not known"))?;
        let signer = verify_chain(chain, &self.roots, *role, received).map_err(|error| error.to_string())?;
        if signer.serial != serial {
            return Err(format!("certificate {serial} is kept as {}", signer.serial));
        }
        if *role == Role::Device && signer.path != *device {
            return Err(format!("certificate {serial} is {}'s", signer.path));
        }
        Ok(signer)
    }
}

/// DER elements one after the other; what is no whole element ends it.
fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while let Some(length) = element(bytes) {
        let Some((this, rest)) = bytes.split_at_checked(length) else { break };
        out.push(this.to_vec());
        bytes = rest;
    }
    out
}

/// Length of the DER element that `bytes` begin with, its header included.
fn element(bytes: &[u8]) -> Option<usize> {
    let first = usize::from(*bytes.get(1)?);
    if first < 0x80 {
        return first.checked_add(2);
    }
    let digits = first.checked_sub(0x80).filter(|n| (1..=3).contains(n))?;
    let length = bytes.get(2..digits.checked_add(2)?)?;
    let length = length.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
    length.checked_add(digits)?.checked_add(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_come_apart_where_they_were_joined() {
        let one = |length: usize| {
            let mut der = vec![0x30];
            match length {
                0..128 => der.push(u8::try_from(length).unwrap()),
                128..256 => der.extend([0x81, u8::try_from(length).unwrap()]),
                _ => der.extend([0x82, u8::try_from(length >> 8).unwrap(), (length & 0xff).to_le_bytes()[0]]),
            }
            der.resize(der.len() + length, 7);
            der
        };
        let parts = [one(5), one(200), one(700), one(0)];
        assert_eq!(split(&parts.concat()), parts);
        assert_eq!(split(&parts.concat()[..20]), [one(5)], "what is cut off is left out");
        assert!(split(&[]).is_empty() && split(&[0x30]).is_empty() && split(&[0x30, 0xff, 0, 0]).is_empty());
    }
}
