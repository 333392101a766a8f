//! What the lake itself keeps of the gate, so that a merge at a command line is judged by the collector's limits.
//!
//! Limits and files of rules are stored beside what is protected, whole, so that every judge reads the same. Of hooks only
//! their names are: programs and secrets belong to one host, and whoever does not have them must not publish past them.

use crate::gate::settings::{GateLimits, GateSettings};
use headwater_align::gate::RuleSet;
use headwater_lake::{Lake, LakeError, Protection, ProtectionChange, RefPatterns};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Version of the stored form; 1, without rules, is read too.
const VERSION: u32 = 2;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    v: u32,
    limits: GateLimits,
    #[serde(default)]
    hooks: Vec<String>,
    /// Files of rules as they were read.
    #[serde(default)]
    rules: Vec<String>,
}

/// Why the lake's own settings of the gate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoredGateError {
    /// Hooks are asked that this host does not know.
    #[error(
        "the gate of this lake asks {hooks}, which only the collector's configuration tells how; name it: --config collector.toml"
    )]
    Hooks {
        /// Their names.
        hooks: String,
    },
    /// The stored form is of a newer build, or not ours.
    #[error(
        "settings of the gate in this lake cannot be read: {reason}; use the build that stored them, or name a configuration: --config collector.toml"
    )]
    Form {
        /// What is wrong.
        reason: String,
    },
}

/// The settings stored in the lake; the defaults where none are.
///
/// # Errors
/// [`StoredGateError`].
pub fn stored_settings(protection: &Protection) -> Result<GateSettings, StoredGateError> {
    if protection.gate.is_null() {
        return Ok(GateSettings::default());
    }
    let wrong = |reason: String| StoredGateError::Form { reason };
    let v = protection.gate.get("v").and_then(Value::as_u64);
    if !v.is_some_and(|v| (1..=u64::from(VERSION)).contains(&v)) {
        return Err(wrong(format!("their form is {v:?}, this build knows 1 to {VERSION}")));
    }
    let form: Form = serde_json::from_value(protection.gate.clone()).map_err(|e| wrong(e.to_string()))?;
    if !form.hooks.is_empty() {
        return Err(StoredGateError::Hooks { hooks: form.hooks.join(", ") });
    }
    let rules = form.rules.iter().map(|text| RuleSet::parse(text)).collect::<Result<_, _>>();
    let rules = rules.map_err(|error| wrong(error.to_string()))?;
    Ok(GateSettings { limits: form.limits, rules, ..GateSettings::default() })
}

/// Stores what a collector's configuration says of protection and gate. What it states is protected from then on; where it
/// states nothing, `main` is, unless somebody ever said something of protection in this lake.
///
/// # Errors
/// When the store fails.
pub async fn store_settings(
    lake: &Lake,
    stated: Option<&RefPatterns>,
    gate: &GateSettings,
    author: &str,
    time_us: i64,
) -> Result<(), LakeError> {
    let hooks = gate.hooks.iter().map(|hook| hook.name.clone()).collect();
    let rules = gate.rules.iter().map(|set| set.text.clone()).collect();
    let form = Form { v: VERSION, limits: gate.limits, hooks, rules };
    let form = serde_json::to_value(&form).map_err(|e| LakeError::Protection { reason: e.to_string() })?;
    let is_first = lake.protection().await?.seq == 0;
    let protect = match stated {
        Some(stated) => stated.clone(),
        None if is_first => RefPatterns::of(&["main"]),
        None => RefPatterns::default(),
    };
    let reason = "the collector's configuration".to_owned();
    let change = ProtectionChange { protect, gate: Some(form), reason, ..ProtectionChange::default() };
    let now = lake.protect(&change, author, time_us).await?;
    tracing::info!(protected = %now.patterns, change = now.seq, "refs that nobody moves directly");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{Hook, HookCall};
    use headwater_lake::testing;
    use serde_json::json;

    #[tokio::test]
    async fn a_collector_stores_its_limits_and_a_person_may_unprotect_for_good() {
        let lake = testing::memory().await.unwrap();
        assert_eq!(stored_settings(&lake.protection().await.unwrap()).unwrap().limits, GateLimits::default());
        let limits = GateLimits { gap_fail_percent: 7, ..GateLimits::default() };
        let gate = GateSettings { limits, ..GateSettings::default() };
        store_settings(&lake, None, &gate, "c", 1).await.unwrap();
        let now = lake.protection().await.unwrap();
        assert_eq!((now.patterns.to_string().as_str(), now.seq), ("main", 1));
        assert_eq!(stored_settings(&now).unwrap().limits, limits);
        // Said again nothing is written; taken away by a person it does not come back by itself.
        store_settings(&lake, None, &gate, "c", 2).await.unwrap();
        assert_eq!(lake.protection().await.unwrap().seq, 1);
        let lift = ProtectionChange { unprotect: RefPatterns::of(&["main"]), ..ProtectionChange::default() };
        lake.protect(&lift, "anna", 3).await.unwrap();
        store_settings(&lake, None, &gate, "c", 4).await.unwrap();
        assert_eq!(lake.protection().await.unwrap().patterns, RefPatterns::default());
        // What a configuration states does.
        store_settings(&lake, Some(&RefPatterns::of(&["main", "r/*"])), &gate, "c", 5).await.unwrap();
        assert_eq!(lake.protection().await.unwrap().patterns.to_string(), "main, r/*");
    }

    #[tokio::test]
    async fn hooks_of_a_collector_are_not_passed_over_elsewhere() {
        let lake = testing::memory().await.unwrap();
        let call = HookCall::Command(vec!["true".to_owned()]);
        let hook = Hook { name: "dark".to_owned(), recipes: Vec::new(), timeout_ms: 1, call };
        let gate = GateSettings { hooks: vec![hook], ..GateSettings::default() };
        store_settings(&lake, None, &gate, "c", 1).await.unwrap();
        let text = stored_settings(&lake.protection().await.unwrap()).unwrap_err().to_string();
        assert!(text.contains("asks dark") && text.contains("--config"), "{text}");
        for form in [
            json!({"v": 3}),
            json!({"v": 1, "limits": {"later": 1}}),
            json!("x"),
            json!({"v": 2, "limits": {}, "rules": ["rule = 1"]}),
        ] {
            let protection = Protection { gate: form, ..Protection::default() };
            let error = stored_settings(&protection).unwrap_err();
            assert!(matches!(error, StoredGateError::Form { .. }), "{error}");
        }
    }
    #[tokio::test]
    async fn rules_of_a_collector_are_those_of_a_merge_at_a_command_line() {
        let lake = testing::memory().await.unwrap();
        let text =
            "headwater_gate = 1\nname = \"drive\"\n[[rule]]\nname = \"order\"\ncheck = \"time_order\"\n";
        let gate = GateSettings { rules: vec![RuleSet::parse(text).unwrap()], ..GateSettings::default() };
        store_settings(&lake, None, &gate, "c", 1).await.unwrap();
        let stored = stored_settings(&lake.protection().await.unwrap()).unwrap();
        assert_eq!((&stored.rules, stored.rules[0].id()), (&gate.rules, gate.rules[0].id()));
        // What an older build stored has none.
        let old = Protection { gate: json!({"v": 1, "limits": {}}), ..Protection::default() };
        assert!(stored_settings(&old).unwrap().rules.is_empty());
    }
}
