//! Notes: the rows of `ops.*` that say what was landed, declared and presented.

use super::{Arriving, Folder};
use crate::commit::clock_rows::hex;
use crate::commit::kinds::column_type;
use crate::dedup::StreamKey;
use crate::ingest::group::Reason;
use crate::land::LandedMessage;
use headwater_core::batch::StreamRef;
use headwater_core::id::StreamId;
use headwater_core::schema::{Schema, conversion};
use headwater_core::time::UtcNanos;
use headwater_core::wire::{Declaration, Hello};
use std::sync::Arc;

/// `state` in `ops.devices` of a device whose certificate was revoked.
pub(in crate::ingest) const REVOKED: &str = "revoked";

impl Folder {
    /// `ops.devices`: keys that were revoked since this was asked last. True if there are any.
    pub(in crate::ingest) fn note_revoked(&mut self, now: UtcNanos) -> bool {
        let mut any = false;
        for key in self.registry.take_revoked() {
            if !self.revoked.insert(key.serial.clone()) {
                continue;
            }
            any = true;
            let device = &key.device.device;
            let of_device = self.agents.keys().filter(|(known, _)| known == device);
            let mut epochs: Vec<Option<String>> =
                of_device.map(|(_, epoch)| Some(epoch.to_string())).collect();
            if epochs.is_empty() {
                epochs.push(None);
            }
            for epoch in epochs {
                let mut cells = self.group.event(now, device);
                cells.extend([
                    ("epoch", epoch.into()),
                    ("state", REVOKED.into()),
                    ("sign_key_id", key.key_id.to_string().into()),
                    ("sign_serial", key.serial.as_str().into()),
                    ("note", key.why.as_str().into()),
                ]);
                self.group.devices.push(cells);
            }
        }
        any
    }

    /// `ops.batches`: one row per landed message, so that every row traces to a signed one.
    pub(super) fn note_message(&mut self, message: &LandedMessage, rows: u64) {
        let receiver = if message.imported { crate::land::IMPORTED } else { self.settings.receiver.as_str() };
        let mut cells = self.group.event(message.received, &message.device.device);
        cells.extend([
            ("digest", message.digest.to_string().into()),
            ("key_serial", message.key_serial.as_str().into()),
            ("signature", message.signature.to_vec().into()),
            ("epoch", message.epoch.to_string().into()),
            ("msg_kind", message.kind.as_str().into()),
            ("lane", u32::from(message.lane.digit()).into()),
            ("sent_boot_ordinal", message.sent.boot_ordinal.into()),
            ("sent_b_ns", message.sent.ns.into()),
            ("received_ns", message.received.0.into()),
            ("bytes", (message.message.len() as u64).into()),
            ("rows", rows.into()),
            ("receiver", receiver.into()),
            ("incarnation", message.position.incarnation.to_string().into()),
            ("landing_n", message.position.segment.into()),
            ("landing_offset", message.position.offset.into()),
        ]);
        self.group.batches.push(cells);
    }

    /// `ops.schemas`, and everything that waited for this declaration.
    pub(super) fn declaration(&mut self, message: &LandedMessage, body: &[u8], replayed: bool) {
        let declaration = match Declaration::from_body(body) {
            Ok(declaration) => declaration,
            Err(error) => {
                return self.set_message_aside(message, Reason::Schema, &error.to_string(), replayed);
            }
        };
        let declared = self.registry.declare(&message.device, message.epoch, &declaration);
        let schema = Arc::new(declaration.schema);
        let key = StreamKey {
            device: message.device.device.clone(),
            epoch: message.epoch,
            stream: declaration.name,
        };
        let who = (key.device.clone(), key.epoch, declaration.stream, schema.fingerprint());
        let known_as = self.aliases.get(&who).map_or_else(|| Arc::clone(&schema), Arc::clone);
        let refused = match &declared {
            Err(error) => Some(error.to_string()),
            Ok(_) if key.stream.as_str().starts_with("hw/") => None,
            Ok(_) => self.kinds.admit(&known_as).err().map(|conflict| conflict.to_string()),
        };
        if !replayed {
            let state = if refused.is_some() { "refused" } else { "accepted" };
            let noted = (schema.as_ref(), known_as.as_ref());
            self.note_schema(&key, declaration.stream, noted, message.received, state, refused);
        }
        self.declared(&message.device, message.epoch);
        if declared.is_ok() {
            self.bring_back(who, &key);
        }
    }

    /// `ops.schemas` again: fields or kind go by another name from now on.
    pub(super) fn note_alias(&mut self, arriving: &Arriving<'_>, by: &str) {
        let Arriving { message, declared, key, .. } = arriving;
        let stream = StreamRef::Id(declared.stream);
        let original = self.registry.resolve(&message.device, key.epoch, &stream, declared.fingerprint);
        let Some(original) = original else { return };
        let noted = (original.schema.as_ref(), declared.schema.as_ref());
        self.note_schema(key, declared.stream, noted, self.newest, "accepted", Some(by.to_owned()));
    }

    fn note_schema(
        &mut self,
        key: &StreamKey,
        stream: StreamId,
        (schema, known_as): (&Schema, &Schema),
        received: UtcNanos,
        state: &str,
        reason: Option<String>,
    ) {
        let mut cells = self.group.event(received, &key.device);
        cells.extend([
            ("epoch", key.epoch.to_string().into()),
            ("stream_id", u32::from(stream.0).into()),
            ("stream", key.stream.to_string().into()),
            ("kind", known_as.kind.to_string().into()),
            ("modality", schema.modality.as_str().into()),
            ("time_exp", u32::from(schema.time_exp).into()),
            ("schema_fp", schema.fingerprint().0.into()),
            ("schema_hash", schema.hash().to_string().into()),
            ("canonical", schema.canonical().into()),
            ("fields", self.fields_json(schema, known_as).into()),
            ("state", state.into()),
            ("reason", reason.into()),
        ]);
        self.group.schemas.push(cells);
    }

    fn fields_json(&self, schema: &Schema, known_as: &Schema) -> String {
        let fields: Vec<serde_json::Value> = schema
            .fields
            .iter()
            .zip(&known_as.fields)
            .map(|(field, known_as_field)| {
                let column = self.kinds.column(&known_as.kind, &known_as_field.name);
                let table_unit = column.map_or(field.unit.as_str(), |column| column.unit.as_str());
                let by = conversion(&field.unit, table_unit);
                serde_json::json!({
                    "name": field.name.as_str(),
                    "known_as": known_as_field.name.as_str(),
                    "type": field.logical.name(),
                    "unit": field.unit,
                    "column": column.map_or(known_as_field.name.as_str(), |column| column.column.as_str()),
                    "column_type": format!("{:?}", column_type(&field.logical)).to_lowercase(),
                    "table_unit": table_unit,
                    "unit_factor": by.map(|by| by.factor()),
                    "unit_offset": by.map(|by| by.offset()),
                })
            })
            .collect();
        serde_json::Value::Array(fields).to_string()
    }

    /// `ops.devices`: who presented itself, with which key and software.
    pub(super) fn hello(&mut self, message: &LandedMessage, body: &[u8]) {
        let hello = match Hello::from_body(body) {
            Ok(hello) => hello,
            Err(error) => return self.set_message_aside(message, Reason::Crc, &error.to_string(), false),
        };
        let device = &message.device.device;
        let software = hello.capabilities.software.clone();
        self.agents.insert((device.clone(), message.epoch), software.clone());
        self.group.agents.insert(software.clone());
        let signer = self.registry.signer(&message.device, message.key_id);
        let next: serde_json::Map<String, serde_json::Value> = hello
            .streams
            .iter()
            .map(|stream| {
                let name = self.registry.stream_name(&message.device, message.epoch, stream.id);
                (
                    name.map_or_else(|| stream.id.0.to_string(), |name| name.to_string()),
                    stream.next_seq.0.into(),
                )
            })
            .collect();
        let mut cells = self.group.event(message.received, device);
        cells.extend([
            ("epoch", message.epoch.to_string().into()),
            ("state", "active".into()),
            ("sign_key_id", message.key_id.to_string().into()),
            ("sign_serial", message.key_serial.as_str().into()),
            ("sign_chain", hello.chain.concat().into()),
            ("not_before", signer.as_ref().map(|signer| signer.not_before.0).into()),
            ("not_after", signer.as_ref().map(|signer| signer.not_after.0).into()),
            ("agent_version", software.into()),
            ("boot_ordinal", hello.boot_ordinal.0.into()),
            ("last_incarnation", message.position.incarnation.to_string().into()),
            ("next_seq", serde_json::Value::Object(next).to_string().into()),
            ("note", format!("boot {}", hex(&hello.boot_id.0)).into()),
        ]);
        self.group.devices.push(cells);
    }
}
