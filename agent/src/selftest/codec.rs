//! Does what is encoded read back to the bit, and do signatures hold?

use super::rows::rows;
use super::{Found, because};
use headwater_core::batch::{Effort, Limits, Section, decode_batch, encode_batch};
use headwater_core::id::{DeviceId, Sha256, StreamId};
use headwater_core::wire::SigningKey;
use headwater_core::wire::request::{KeyUse, new_key, read_request};
use ring::rand::SystemRandom;

/// Enough rows for every codec to be worth its while.
const ROWS: u64 = 2_000;

/// The check of the codec.
pub(super) fn reads_back() -> Found {
    let written = rows(StreamId(1), 7, ROWS)?;
    let mut sizes = Vec::new();
    for effort in [Effort::Spool, Effort::Wire, Effort::Metered] {
        let body = encode_batch(&[Section::Rows(written.clone())], effort);
        let read = decode_batch(&body, &Limits::V1).map_err(because("a batch cannot be read"))?;
        if !read.rows().any(|rows| rows.same_bits(&written)) {
            return Err(format!("rows encoded for {effort:?} read back as others"));
        }
        let half = body.get(..body.len() / 2).unwrap_or_default();
        if decode_batch(half, &Limits::V1).is_ok_and(|read| read.rows().any(|rows| rows.same_bits(&written)))
        {
            return Err(format!("half a batch for {effort:?} reads as a whole one"));
        }
        sizes.push(body.len().to_string());
    }
    Ok(format!("{ROWS} rows of every type read back to the bit ({} bytes)", sizes.join(", ")))
}

/// The check of keys and signatures.
pub(super) fn signatures_hold() -> Found {
    let random = SystemRandom::new();
    let name: DeviceId = "selftest".parse().map_err(|_| "selftest is no name".to_owned())?;
    for key_use in [KeyUse::Tls, KeyUse::Sign] {
        let new = new_key(key_use, &name, &random).map_err(because("no key can be made"))?;
        read_request(&new.request, key_use).map_err(because("a key's own signature does not hold"))?;
        if key_use == KeyUse::Sign {
            let key = SigningKey::from_pkcs8(&new.pkcs8).map_err(because("a key cannot be read"))?;
            let (digest, other) = (Sha256::of(b"a message"), Sha256::of(b"another"));
            let signature = key.sign(&digest);
            let known = key.verifying_key().map_err(because("a key has no public half"))?;
            known.verify(&digest, &signature).map_err(because("a signature does not hold"))?;
            if known.verify(&other, &signature).is_ok() {
                return Err("a signature holds for another message".to_owned());
            }
        }
    }
    Ok("P-256 and Ed25519 keys made, signatures hold".to_owned())
}
