//! What is protected: said, taken back, listed.

use super::super::QueryError;
use super::super::show::{Printer, object, time};
use headwater_lake::{By, Lake, ProtectionChange, RefPattern, RefPatterns};
use serde_json::json;
use std::io::Write;

impl<W: Write> Printer<W> {
    pub(super) async fn protect(
        &mut self,
        lake: &Lake,
        protect: Vec<RefPattern>,
        unprotect: Vec<RefPattern>,
        by: &By,
    ) -> Result<(), QueryError> {
        let change = ProtectionChange {
            protect: RefPatterns(protect),
            unprotect: RefPatterns(unprotect),
            reason: by.message.clone().unwrap_or_default(),
            ..ProtectionChange::default()
        };
        let now = lake.protect(&change, &by.author, by.time_us).await?;
        let text = match now.patterns.0.is_empty() {
            true => "nothing is protected".to_owned(),
            false => format!("protected: {}", now.patterns),
        };
        self.told(json!({"protected": now.patterns, "seq": now.seq}), &text)
    }

    pub(super) async fn protected(&mut self, lake: &Lake) -> Result<(), QueryError> {
        let now = lake.protection().await?;
        let row = |pattern: &RefPattern| {
            object(json!({
                "protected": pattern,
                "time": time(now.time_us),
                "by": now.author,
                "reason": now.reason,
            }))
        };
        let rows: Vec<_> = now.patterns.0.iter().map(row).collect();
        self.list(&["protected", "time", "by", "reason"], &rows, "nothing is protected")
    }
}
