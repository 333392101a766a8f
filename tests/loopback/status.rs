//! The agent's status file, as far as runs need it.

use crate::truth::NextSeqs;
use serde_json::Value;
use std::path::Path;

/// What the agent last said of itself.
#[derive(Debug, Clone)]
pub struct AgentStatus(Value);

impl AgentStatus {
    /// Reads the file; `None` if it is not there or not whole yet.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok().map(Self)
    }

    fn streams(&self) -> impl Iterator<Item = &Value> {
        self.0["streams"].as_array().into_iter().flatten()
    }

    /// Rows held and not yet acknowledged.
    #[must_use]
    pub fn held_rows(&self) -> u64 {
        self.streams().filter_map(|s| s["held_rows"].as_u64()).sum()
    }

    /// Rows the collector acknowledged to the level the agent trims on.
    #[must_use]
    pub fn acked_rows(&self) -> u64 {
        self.streams().filter_map(|s| s["acked_rows"].as_u64()).sum()
    }

    /// True if streams are known and the sources' rows are all acknowledged. The agent's own streams go
    /// on as long as it lives, so they are left out.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let mut any = false;
        let done =
            self.streams().filter(|s| !s["name"].as_str().is_some_and(|n| n.starts_with("hw/"))).all(|s| {
                any = true;
                s["held_rows"].as_u64() == Some(0)
            });
        any && done
    }

    /// Bytes of slabs and blobs that became durable since the agent's start.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        self.0["spool"]["payload_bytes"].as_u64().unwrap_or_default()
    }

    /// The spool's life.
    #[must_use]
    pub fn epoch(&self) -> &str {
        self.0["epoch"].as_str().unwrap_or_default()
    }

    /// `(epoch, stream) → next_seq` of every stream of a source.
    #[must_use]
    pub fn next_seqs(&self) -> NextSeqs {
        self.streams()
            .filter_map(|s| {
                let name = s["name"].as_str()?;
                let key = (self.epoch().to_owned(), name.to_owned());
                (!name.starts_with("hw/")).then_some((key, s["next_seq"].as_u64()?))
            })
            .collect()
    }

    /// Next seq of one stream.
    #[must_use]
    pub fn next_seq(&self, stream: &str) -> Option<u64> {
        self.streams().find(|s| s["name"].as_str() == Some(stream))?["next_seq"].as_u64()
    }

    /// Bytes handed to the broker in this life.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.0["link"]["bytes_sent"].as_u64().unwrap_or_default()
    }

    /// The receiver's incarnation, as it last spoke.
    #[must_use]
    pub fn incarnation(&self) -> Option<&str> {
        self.0["link"]["incarnation"].as_str()
    }

    /// Acks that failed a check.
    #[must_use]
    pub fn acks_rejected(&self) -> u64 {
        self.0["link"]["acks_rejected"].as_u64().unwrap_or_default()
    }

    /// The whole document.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.0
    }
}
