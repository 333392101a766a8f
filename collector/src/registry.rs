//! What the collector knows of its devices: declared streams and signing keys.
//!
//! A message is only as good as the key that signed it, and a section says no more than an id and a
//! fingerprint. Both come from messages that were landed before, so this is rebuilt from the landing
//! logs at start; whoever finds them elsewhere (tables of an older life) puts them in the same way.

use headwater_core::batch::StreamRef;
use headwater_core::id::{DevicePath, Epoch, KeyId, StreamId, StreamName};
use headwater_core::schema::{Fingerprint, Schema};
use headwater_core::time::UtcNanos;
use headwater_core::wire::Declaration;
use headwater_core::wire::chain::{ChainError, FleetRoots, Role, Signer, verify_chain};
use headwater_core::wire::revocation::{RevocationList, Revoked};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Keys kept per device, the newest: a renewal overlaps with its predecessor, so two are usual.
pub const KEYS_PER_DEVICE_MAX: usize = 8;

/// Epochs of a device whose declarations are kept, the last declared: four times what the receiver keeps of, since the
/// committer may be behind it. A section of one that is forgotten waits for its declaration, which is asked for.
pub const DECLARED_EPOCHS_MAX: usize = 64;

/// A signing key the fleet's root vouches for.
#[derive(Debug, Clone)]
pub struct DeviceKey {
    /// Whom the chain names, with key and serial.
    pub signer: Signer,
    /// The chain, leaf first, DER.
    pub chain: Vec<Vec<u8>>,
    /// When it was first seen, UTC of the receiver.
    pub seen: UtcNanos,
}

/// A device's key that counts no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedKey {
    /// Whose it was.
    pub device: DevicePath,
    /// Which key.
    pub key_id: KeyId,
    /// Serial of its certificate.
    pub serial: String,
    /// Why, for a person.
    pub why: String,
}

/// A stream as a device declared it.
#[derive(Debug, Clone)]
pub struct DeclaredStream {
    /// Id in its epoch.
    pub stream: StreamId,
    /// Name.
    pub name: StreamName,
    /// Fingerprint of the schema.
    pub fingerprint: Fingerprint,
    /// Schema.
    pub schema: Arc<Schema>,
}

/// What a declaration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared {
    /// It was new.
    New,
    /// It was known.
    Known,
}

/// A declaration that contradicts an earlier one of its epoch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeclareError {
    /// The id belongs to another name.
    #[error("stream {stream:?} was declared as {known}, now as {found}")]
    Name {
        /// Id.
        stream: StreamId,
        /// Known name.
        known: StreamName,
        /// New name.
        found: StreamName,
    },
    /// Another schema has this fingerprint: the device must raise its salt.
    #[error("stream {stream:?} has another schema of fingerprint {fingerprint}")]
    Collision {
        /// Id.
        stream: StreamId,
        /// Fingerprint.
        fingerprint: Fingerprint,
    },
}

#[derive(Debug, Default)]
struct EpochStreams {
    /// When it declared last, in the order of declarations.
    age: u64,
    names: BTreeMap<StreamId, StreamName>,
    schemas: BTreeMap<(StreamId, Fingerprint), Arc<Schema>>,
}

#[derive(Debug, Default)]
struct Inner {
    streams: HashMap<DevicePath, BTreeMap<Epoch, EpochStreams>>,
    next_age: u64,
    epochs_forgotten: u64,
    keys: HashMap<DevicePath, Vec<DeviceKey>>,
    revocations: Arc<RevocationList>,
    /// Serials of known keys that count no more, and why: what every message is held against.
    revoked: BTreeMap<String, String>,
    /// Of these, those that nobody has noted yet.
    unnoted: Vec<RevokedKey>,
}

/// Shared by receiver and committer; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    inner: Arc<RwLock<Inner>>,
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a declaration. Idempotent.
    ///
    /// # Errors
    /// [`DeclareError`] if it contradicts an earlier one; nothing is changed then.
    pub fn declare(
        &self,
        device: &DevicePath,
        epoch: Epoch,
        declaration: &Declaration,
    ) -> Result<Declared, DeclareError> {
        let fingerprint = declaration.schema.fingerprint();
        let mut inner = self.write();
        let streams = inner.streams_of(device, epoch);
        if let Some(known) = streams.names.get(&declaration.stream)
            && *known != declaration.name
        {
            return Err(DeclareError::Name {
                stream: declaration.stream,
                known: known.clone(),
                found: declaration.name.clone(),
            });
        }
        let key = (declaration.stream, fingerprint);
        match streams.schemas.get(&key) {
            Some(schema) if **schema == declaration.schema => return Ok(Declared::Known),
            Some(_) => return Err(DeclareError::Collision { stream: declaration.stream, fingerprint }),
            None => {}
        }
        streams.names.insert(declaration.stream, declaration.name.clone());
        streams.schemas.insert(key, Arc::new(declaration.schema.clone()));
        Ok(Declared::New)
    }

    /// What a section's stream reference and fingerprint stand for; `None` if that was not declared.
    #[must_use]
    pub fn resolve(
        &self,
        device: &DevicePath,
        epoch: Epoch,
        stream: &StreamRef,
        fingerprint: Fingerprint,
    ) -> Option<DeclaredStream> {
        let inner = self.read();
        let streams = inner.streams.get(device)?.get(&epoch)?;
        let stream = streams.id(stream)?;
        let schema = streams.schemas.get(&(stream, fingerprint))?;
        let name = streams.names.get(&stream)?.clone();
        Some(DeclaredStream { stream, name, fingerprint, schema: Arc::clone(schema) })
    }

    /// The id a stream reference stands for.
    #[must_use]
    pub fn stream_id(&self, device: &DevicePath, epoch: Epoch, stream: &StreamRef) -> Option<StreamId> {
        self.read().streams.get(device)?.get(&epoch)?.id(stream)
    }

    /// The name of a stream.
    #[must_use]
    pub fn stream_name(&self, device: &DevicePath, epoch: Epoch, stream: StreamId) -> Option<StreamName> {
        self.read().streams.get(device)?.get(&epoch)?.names.get(&stream).cloned()
    }

    /// Every declared stream of an epoch, each of its schemas.
    #[must_use]
    pub fn streams(&self, device: &DevicePath, epoch: Epoch) -> Vec<DeclaredStream> {
        let inner = self.read();
        let Some(streams) = inner.streams.get(device).and_then(|epochs| epochs.get(&epoch)) else {
            return Vec::new();
        };
        streams
            .schemas
            .iter()
            .filter_map(|((stream, fingerprint), schema)| {
                Some(DeclaredStream {
                    stream: *stream,
                    name: streams.names.get(stream)?.clone(),
                    fingerprint: *fingerprint,
                    schema: Arc::clone(schema),
                })
            })
            .collect()
    }

    /// Epochs whose declarations were forgotten because their device had too many.
    #[must_use]
    pub fn epochs_forgotten(&self) -> u64 {
        self.read().epochs_forgotten
    }

    /// Verifies a signing chain at time `now` and keeps its key. Gives whom it names.
    ///
    /// # Errors
    /// [`ChainError`]; nothing is kept then.
    pub fn admit_chain(
        &self,
        chain: Vec<Vec<u8>>,
        roots: &FleetRoots,
        now: UtcNanos,
    ) -> Result<Signer, ChainError> {
        let signer = verify_chain(&chain, roots, Role::Device, now)?;
        self.insert_key(DeviceKey { signer: signer.clone(), chain, seen: now });
        Ok(signer)
    }

    /// Keeps a key whose chain was verified. Of more than [`KEYS_PER_DEVICE_MAX`] the longest known goes.
    pub fn insert_key(&self, key: DeviceKey) {
        self.write().insert_key(key);
    }

    /// The signer of a device's key.
    #[must_use]
    pub fn signer(&self, device: &DevicePath, key_id: KeyId) -> Option<Signer> {
        let inner = self.read();
        let keys = inner.keys.get(device)?;
        keys.iter().find(|key| key.signer.key.key_id() == key_id).map(|key| key.signer.clone())
    }

    /// Every device with its keys.
    #[must_use]
    pub fn devices(&self) -> Vec<(DevicePath, Vec<DeviceKey>)> {
        self.read().keys.iter().map(|(device, keys)| (device.clone(), keys.clone())).collect()
    }

    /// When the newest certificate of each device ends.
    #[must_use]
    pub fn newest_ends(&self) -> Vec<UtcNanos> {
        let inner = self.read();
        let end = |keys: &Vec<DeviceKey>| keys.iter().map(|key| key.signer.not_after).max();
        inner.keys.values().filter_map(end).collect()
    }

    /// Takes a newer list of revoked certificates: messages of their keys are refused from now on. What was revoked
    /// before stays so. Gives how many known keys that newly concerns.
    pub fn revoke(&self, list: &RevocationList) -> usize {
        let mut inner = self.write();
        let mut known = RevocationList::clone(&inner.revocations);
        known.extend(list);
        inner.revocations = Arc::new(known);
        let keys: Vec<DeviceKey> = inner.keys.values().flatten().cloned().collect();
        keys.iter().filter(|key| inner.judge(key)).count()
    }

    /// Why a certificate serial (lower-case hex) of a known key is revoked; `None` if it is not.
    #[must_use]
    pub fn revoked(&self, serial: &str) -> Option<String> {
        self.read().revoked.get(serial).cloned()
    }

    /// Why a chain that nobody may have seen yet is revoked; `None` if it is not.
    #[must_use]
    pub fn revoked_chain(&self, chain: &[Vec<u8>]) -> Option<String> {
        self.read().revocations.find(chain).map(told)
    }

    /// Why a device's key does not count at `now` although its chain holds: another CA has the name. `None` if it counts.
    ///
    /// Names are reserved in each CA's own register only, so a CA of a site could certify what the root or another
    /// site gave out. The root outranks its sites; among them the first that was heard of keeps the name, until its
    /// certificates for it have ended or are revoked.
    #[must_use]
    pub fn other_ca(&self, signer: &Signer, now: UtcNanos) -> Option<String> {
        let site = signer.site.as_ref()?;
        let inner = self.read();
        // Keys of imports are a collector's and say nothing of the device's CA.
        let mut live = inner.keys.get(&signer.path)?.iter().map(|key| &key.signer).filter(|known| {
            known.role == Role::Device && now <= known.not_after && !inner.revoked.contains_key(&known.serial)
        });
        let first = live.next()?;
        let home = std::iter::once(first).chain(live).find(|known| known.site.is_none()).unwrap_or(first);
        let theirs = match &home.site {
            Some(known) if known == site => return None,
            Some(known) => known.as_str(),
            None => "the root",
        };
        // An ack has room for the beginning only.
        Some(format!(
            "certificate {} is of another CA than {}'s: of {site}, not of {theirs}, whose {} is neither revoked nor over; \
             revoke that to move the name",
            signer.serial, signer.path, home.serial
        ))
    }

    /// Everything that is revoked, known keys or not.
    #[must_use]
    pub fn revocations(&self) -> Arc<RevocationList> {
        Arc::clone(&self.read().revocations)
    }

    /// Revoked keys that were not given out before, for the lake's notes.
    #[must_use]
    pub fn take_revoked(&self) -> Vec<RevokedKey> {
        if self.read().unnoted.is_empty() {
            return Vec::new();
        }
        std::mem::take(&mut self.write().unnoted)
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        // No code under this lock leaves it half changed, so a panic elsewhere spoils nothing.
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The streams of an epoch that declares one; for a new epoch beyond the bound the one that was silent longest goes.
    fn streams_of(&mut self, device: &DevicePath, epoch: Epoch) -> &mut EpochStreams {
        let epochs = self.streams.entry(device.clone()).or_default();
        if epochs.len() >= DECLARED_EPOCHS_MAX
            && !epochs.contains_key(&epoch)
            && let Some(oldest) =
                epochs.iter().min_by_key(|(_, streams)| streams.age).map(|(epoch, _)| *epoch)
        {
            epochs.remove(&oldest);
            self.epochs_forgotten = self.epochs_forgotten.saturating_add(1);
        }
        self.next_age = self.next_age.saturating_add(1);
        let streams = epochs.entry(epoch).or_default();
        streams.age = self.next_age;
        streams
    }

    fn insert_key(&mut self, key: DeviceKey) {
        self.judge(&key);
        let revoked = &self.revoked;
        let keys = self.keys.entry(key.signer.path.clone()).or_default();
        let key_id = key.signer.key.key_id();
        if let Some(known) = keys.iter_mut().find(|known| known.signer.key.key_id() == key_id) {
            // A renewed certificate for the same key; an older one that is read again brings nothing.
            if known.signer.not_after <= key.signer.not_after || revoked.contains_key(&known.signer.serial) {
                known.signer = key.signer;
                known.chain = key.chain;
            }
            return;
        }
        if keys.len() >= KEYS_PER_DEVICE_MAX {
            keys.remove(0);
        }
        keys.push(key);
    }

    /// Notes a key whose certificate, or a CA above it, is revoked; true if that is news.
    fn judge(&mut self, key: &DeviceKey) -> bool {
        let Some(why) = self.revocations.find(&key.chain).map(told) else { return false };
        let serial = key.signer.serial.clone();
        if self.revoked.contains_key(&serial) {
            return false;
        }
        let (device, key_id) = (key.signer.path.clone(), key.signer.key.key_id());
        self.unnoted.push(RevokedKey { device, key_id, serial: serial.clone(), why: why.clone() });
        self.revoked.insert(serial, why);
        true
    }
}

fn told(revoked: &Revoked) -> String {
    format!("certificate {} is revoked: {}", revoked.serial, revoked.reason)
}

impl EpochStreams {
    fn id(&self, stream: &StreamRef) -> Option<StreamId> {
        match stream {
            StreamRef::Id(id) => self.names.contains_key(id).then_some(*id),
            StreamRef::Name(name) => self.names.iter().find(|(_, known)| *known == name).map(|(id, _)| *id),
        }
    }
}
