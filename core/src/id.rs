//! Identities: what names a tenant, a device, a stream and one sample of it.
//!
//! A sample is (device, epoch, stream, seq). Each part has its own type, so that no function takes
//! two bare integers, and names are checked once, where they enter.

use ring::digest;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Number of ingest shards a topic can name (`hw/1/in/{00..63}/…`).
pub const SHARDS: u64 = 64;
/// Longest tenant or device name, bytes: six topic levels stay far below every broker's limit.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest stream name, bytes: a stream table of 256 names fits 40 KiB.
pub const STREAM_NAME_BYTES_MAX: usize = 127;
/// Longest kind or field name, bytes.
pub const KIND_BYTES_MAX: usize = 63;
/// Most streams one device may have in an epoch.
pub const STREAMS_MAX: u16 = 256;

/// A name that does not follow its rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {name:?} is not {rule}")]
pub struct NameError {
    /// Which identity was being read.
    pub what: &'static str,
    /// The offending text.
    pub name: String,
    /// The rule in words.
    pub rule: &'static str,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $type {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> bool = $check;
                if check(name) {
                    Ok(Self(name.to_owned()))
                } else {
                    Err(NameError { what: $what, name: name.chars().take(140).collect(), rule: $rule })
                }
            }
        }
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                name.parse()
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is_plain(name: &str, bytes_max: usize) -> bool {
    !name.is_empty()
        && name.len() <= bytes_max
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
}

fn is_identifier(name: &str) -> bool {
    name.len() <= KIND_BYTES_MAX
        && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

name_type!(
    /// The owner of devices and of one lake; organisation (O) of its certificates.
    TenantId, "tenant", "1 to 64 characters of a-z 0-9 . _ -", |n| is_plain(n, NAME_BYTES_MAX)
);
name_type!(
    /// A gateway; common name (CN) of its certificates.
    DeviceId, "device", "1 to 64 characters of a-z 0-9 . _ -", |n| is_plain(n, NAME_BYTES_MAX)
);
name_type!(
    /// The ordered samples of one source, such as `imu` or `camera/front`. `hw/` is reserved for built-in streams.
    StreamName, "stream", "segments of a-z 0-9 . _ - joined by /, at most 127 bytes",
    |n| n.len() <= STREAM_NAME_BYTES_MAX && n.split('/').all(|segment| is_plain(segment, STREAM_NAME_BYTES_MAX))
);
name_type!(
    /// A schema family such as `imu` or `gps_fix`; one lake table each.
    KindName, "kind", "[a-z][a-z0-9_]{0,62}", is_identifier
);
name_type!(
    /// A field of a kind; across the fleet (kind, name) identifies it.
    FieldName, "field", "[a-z][a-z0-9_]{0,62}", is_identifier
);

/// One life of a spool: random, so a wiped or replaced card never repeats a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Epoch {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = || NameError { what: "epoch", name: text.to_owned(), rule: "16 hexadecimal digits" };
        if text.len() != 16 {
            return Err(refuse());
        }
        u64::from_str_radix(text, 16).map(Epoch).map_err(|_| refuse())
    }
}

/// Persisted counter of kernel boots of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BootOrdinal(pub u32);

/// The kernel's `boot_id` uuid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BootId(pub [u8; 16]);

/// A stream's number within an epoch: dense from 1, never reused. 0 never occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StreamId(pub u16);

/// Position of a sample in its stream: gapless per (device, epoch, stream), from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seq(pub u64);

impl Seq {
    /// The seq `n` places on.
    #[must_use]
    pub fn plus(self, n: u64) -> Seq {
        Seq(self.0.saturating_add(n))
    }
}

/// First 8 bytes of the SHA-256 of a raw Ed25519 public key: names the signer of a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 8]);

/// One life of one receiver; names its landing log and stands in each of its acks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IncarnationId(pub [u8; 16]);

/// First 16 bytes of the SHA-256 of an object's bytes (`core::wire::part`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(pub [u8; 16]);

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// Digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, bytes);
        let mut out = [0; 32];
        out.copy_from_slice(digest.as_ref());
        Self(out)
    }

    /// The first `N` bytes (`N` ≤ 32).
    #[must_use]
    pub fn head<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        for (to, from) in out.iter_mut().zip(self.0) {
            *to = from;
        }
        out
    }
}

macro_rules! hex_type {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), self)
            }
        }
    };
}
hex_type!(KeyId);
hex_type!(IncarnationId);
hex_type!(ObjectId);
hex_type!(Sha256);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for BootId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
        parse_hex(&digits).map(BootId).ok_or_else(|| NameError {
            what: "boot_id",
            name: text.chars().take(64).collect(),
            rule: "a uuid",
        })
    }
}

/// Reads exactly `N` bytes from `2 N` hexadecimal digits.
#[must_use]
pub fn parse_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    if digits.len() != N.checked_mul(2)? {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

/// Whose messages these are: tenant and device, as in the topic and in the signer's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DevicePath {
    /// Owner.
    pub tenant: TenantId,
    /// Gateway.
    pub device: DeviceId,
}

impl DevicePath {
    fn digest(&self) -> Sha256 {
        Sha256::of(format!("{}/{}", self.tenant, self.device).as_bytes())
    }

    /// Bytes 8..10 of SHA-256(tenant "/" device): the envelope's check that it is on its own topic.
    #[must_use]
    pub fn tag(&self) -> u16 {
        let [.., low, high] = self.digest().head::<10>();
        u16::from_le_bytes([low, high])
    }

    /// The ingest shard: the first 8 bytes of the digest as little-endian u64, mod 64.
    #[must_use]
    pub fn shard(&self) -> u8 {
        u8::try_from(u64::from_le_bytes(self.digest().head::<8>()) % SHARDS).unwrap_or(0)
    }
}

impl fmt::Display for DevicePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_once_at_the_rim() {
        assert!("camera/front".parse::<StreamName>().is_ok());
        for bad in ["", "/imu", "imu//x", "Imu", "a b", "imu+", "#"] {
            assert!(bad.parse::<StreamName>().is_err(), "{bad:?}");
        }
        assert!("pi-7.site_2".parse::<DeviceId>().is_ok());
        assert!("pi/7".parse::<DeviceId>().is_err());
        assert!("x".repeat(65).parse::<DeviceId>().is_err());
        assert!("gps_fix".parse::<KindName>().is_ok());
        assert!("9gps".parse::<KindName>().is_err());
    }

    #[test]
    fn tag_and_shard_are_pinned() {
        let path = DevicePath { tenant: "acme".parse().unwrap(), device: "pi-1".parse().unwrap() };
        let h = Sha256::of(b"acme/pi-1").0;
        assert_eq!(path.tag(), u16::from_le_bytes([h[8], h[9]]));
        assert_eq!(u64::from(path.shard()), u64::from_le_bytes(h[..8].try_into().unwrap()) % 64);
    }

    #[test]
    fn epoch_and_boot_id_round_trip_as_text() {
        let epoch = Epoch(0x0123_4567_89ab_cdef);
        assert_eq!(epoch.to_string().parse::<Epoch>(), Ok(epoch));
        let id: BootId = "7f0c1c2e-5d53-4be9-9a38-1f3c2f0b8e11".parse().unwrap();
        assert_eq!(id.to_string(), "7f0c1c2e-5d53-4be9-9a38-1f3c2f0b8e11");
    }
}
