//! `[gate]`, how aligned rows are judged, and `[event]`, who is told of commits.

use super::read::{Mistakes, Section};
use crate::gate::{GateLimits, GateMode, HOOK_TIMEOUT_S, HOOK_TIMEOUT_S_MAX, HOOKS_MAX, KEEP};
use crate::outbound::Endpoint;
use headwater_core::id::{KindName, TenantId};
use headwater_lake::RefName;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Most webhooks that are told of commits.
const WEBHOOKS_MAX: usize = 16;

/// Most files of gate rules.
const RULE_FILES_MAX: usize = 64;

/// How a hook is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookWay {
    /// `command`.
    Command(Vec<String>),
    /// `url`, and `secret_file` if given.
    Webhook(Endpoint, Option<PathBuf>),
}

/// `[[gate.hook]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookSection {
    /// `name`.
    pub name: String,
    /// `recipes`; none means all.
    pub recipes: Vec<KindName>,
    /// `timeout_s`.
    pub timeout_s: u64,
    /// `command` or `url`.
    pub way: HookWay,
}

/// `[gate]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateSection {
    /// `mode`.
    pub mode: GateMode,
    /// `keep`.
    pub keep: usize,
    /// Limits of the rules.
    pub limits: GateLimits,
    /// `rules`: files of rules.
    pub rules: Vec<PathBuf>,
    /// `[[gate.hook]]`.
    pub hooks: Vec<HookSection>,
    /// `rest_url`.
    pub rest_url: Option<String>,
    /// `ca_file`: trusted for webhooks besides what the system trusts.
    pub ca_file: Option<PathBuf>,
}

/// `[[event.webhook]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventHook {
    /// `name`: its cursor is kept under it.
    pub name: String,
    /// `url`.
    pub url: Endpoint,
    /// `secret_file`.
    pub secret_file: Option<PathBuf>,
    /// `kinds`, as commits name them; none means all.
    pub kinds: Vec<String>,
    /// `refs`: names, or beginnings with `*` at the end.
    pub refs: Vec<String>,
}

/// `[event]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventSettings {
    /// `[[event.webhook]]`.
    pub webhooks: Vec<EventHook>,
    /// `ca_file`: trusted besides what the system trusts.
    pub ca_file: Option<PathBuf>,
}

pub(super) fn read_gate(root: &mut Section, folder: &Path, mistakes: &mut Mistakes) -> GateSection {
    let limits = GateLimits::default();
    let mut gate = GateSection {
        mode: GateMode::Inline,
        keep: KEEP,
        limits,
        rules: Vec::new(),
        hooks: Vec::new(),
        rest_url: None,
        ca_file: None,
    };
    let Some(mut table) = root.section("gate", mistakes) else { return gate };
    let mode = table.text("mode", mistakes);
    match mode.as_deref() {
        None | Some("inline") => {}
        Some("branch") => gate.mode = GateMode::Branch,
        Some(other) => {
            let hint = "branch stages rows on wap/<id>, where hooks can read them";
            mistakes.add(&table.path_of("mode"), "\"inline\" or \"branch\"", &format!("{other:?}"), hint);
        }
    }
    let keep = table.number("keep", 1..=1000, "candidates", mistakes);
    gate.keep = keep.and_then(|keep| usize::try_from(keep).ok()).unwrap_or(KEEP);
    let mut percent = |key, default| table.number(key, 0..=100, "percent", mistakes).unwrap_or(default);
    gate.limits = GateLimits {
        unmatched_warn_percent: percent("unmatched_warn_percent", limits.unmatched_warn_percent),
        unmatched_fail_percent: percent("unmatched_fail_percent", limits.unmatched_fail_percent),
        gap_warn_percent: percent("gap_warn_percent", limits.gap_warn_percent),
        gap_fail_percent: percent("gap_fail_percent", limits.gap_fail_percent),
    };
    gate.rules = table.texts("rules", mistakes).iter().map(|file| folder.join(file)).collect();
    if gate.rules.len() > RULE_FILES_MAX {
        let found = gate.rules.len().to_string();
        mistakes.add(&table.path_of("rules"), &format!("at most {RULE_FILES_MAX} files"), &found, "");
    }
    gate.rest_url = table.text("rest_url", mistakes);
    gate.ca_file = table.text("ca_file", mistakes).map(|file| folder.join(file));
    let hooks_path = table.path_of("hook");
    let hooks = table.sections("hook", mistakes);
    if hooks.len() > HOOKS_MAX {
        mistakes.add(&hooks_path, &format!("at most {HOOKS_MAX} hooks"), &hooks.len().to_string(), "");
    }
    if !hooks.is_empty() && matches!(mode.as_deref(), None | Some("inline")) {
        let hint = "hooks read rows where they are staged";
        mistakes.add(&table.path_of("mode"), "\"branch\" with hooks", "\"inline\"", hint);
    }
    let mut names = BTreeSet::new();
    for hook in hooks {
        gate.hooks.extend(read_hook(hook, folder, &mut names, mistakes));
    }
    table.finish(mistakes);
    gate
}

fn read_hook(
    mut table: Section,
    folder: &Path,
    names: &mut BTreeSet<String>,
    mistakes: &mut Mistakes,
) -> Option<HookSection> {
    let name = read_name(&mut table, names, mistakes);
    let recipes: Vec<String> = table.texts("recipes", mistakes);
    let recipes_path = table.path_of("recipes");
    let mut named = Vec::new();
    for recipe in recipes {
        match recipe.parse() {
            Ok(recipe) => named.push(recipe),
            Err(_) => mistakes.add(&recipes_path, "names of recipes", &format!("{recipe:?}"), ""),
        }
    }
    let longest = i64::try_from(HOOK_TIMEOUT_S_MAX).unwrap_or(i64::MAX);
    let timeout_s = table.number("timeout_s", 1..=longest, "seconds", mistakes).unwrap_or(HOOK_TIMEOUT_S);
    let command = table.texts("command", mistakes);
    let is_webhook = table.has("url");
    let url = read_url(&mut table, mistakes);
    let secret = table.text("secret_file", mistakes).map(|file| folder.join(file));
    let hint = "command = [\"program\", \"argument\"], or url = \"https://…\"";
    let way = match (command.is_empty(), is_webhook) {
        (false, false) => {
            if secret.is_some() {
                mistakes.add(&table.path_of("secret_file"), "url beside it", "command", "programs need none");
            }
            Some(HookWay::Command(command))
        }
        (true, true) => url.map(|url| HookWay::Webhook(url, secret)),
        (true, false) => {
            mistakes.add(&table.path_of("command"), "a program or a url", "nothing", hint);
            None
        }
        (false, true) => {
            mistakes.add(&table.path_of("command"), "a program or a url", "both", hint);
            None
        }
    };
    table.finish(mistakes);
    Some(HookSection { name: name?, recipes: named, timeout_s, way: way? })
}

pub(super) fn read_event(root: &mut Section, folder: &Path, mistakes: &mut Mistakes) -> EventSettings {
    let Some(mut table) = root.section("event", mistakes) else { return EventSettings::default() };
    let ca_file = table.text("ca_file", mistakes).map(|file| folder.join(file));
    let path = table.path_of("webhook");
    let hooks = table.sections("webhook", mistakes);
    if hooks.len() > WEBHOOKS_MAX {
        mistakes.add(&path, &format!("at most {WEBHOOKS_MAX} webhooks"), &hooks.len().to_string(), "");
    }
    let mut names = BTreeSet::new();
    let webhooks =
        hooks.into_iter().filter_map(|hook| read_webhook(hook, folder, &mut names, mistakes)).collect();
    table.finish(mistakes);
    EventSettings { webhooks, ca_file }
}

fn read_webhook(
    mut table: Section,
    folder: &Path,
    names: &mut BTreeSet<String>,
    mistakes: &mut Mistakes,
) -> Option<EventHook> {
    let name = read_name(&mut table, names, mistakes);
    let has_url = table.has("url");
    let url = read_url(&mut table, mistakes);
    if !has_url {
        mistakes.add(&table.path_of("url"), "an address", "nothing", "such as \"https://example.org/hook\"");
    }
    let secret_file = table.text("secret_file", mistakes).map(|file| folder.join(file));
    let kinds = table.texts("kinds", mistakes);
    let known = [
        "ingest",
        "resolve",
        "align",
        "compact",
        "merge",
        "revert",
        "rollback",
        "reset",
        "schema",
        "foreign",
        "retention",
        "erase",
        "repair",
        "delete",
    ];
    for kind in kinds.iter().filter(|kind| !known.contains(&kind.as_str())) {
        let hint = format!("known are: {}", known.join(", "));
        mistakes.add(&table.path_of("kinds"), "kinds of commits", &format!("{kind:?}"), &hint);
    }
    let mut refs = table.texts("refs", mistakes);
    let is_pattern = |text: &String| match text.strip_suffix('*') {
        Some(beginning) => beginning.is_empty() || RefName::new(beginning.trim_end_matches('/')).is_ok(),
        None => RefName::new(text.as_str()).is_ok(),
    };
    for wrong in refs.iter().filter(|text| !is_pattern(text)) {
        let hint = "such as \"main\" or \"quarantine/*\"";
        mistakes.add(
            &table.path_of("refs"),
            "names of refs, or beginnings with *",
            &format!("{wrong:?}"),
            hint,
        );
    }
    if refs.is_empty() {
        refs.push("main".to_owned());
    }
    table.finish(mistakes);
    Some(EventHook { name: name?, url: url?, secret_file, kinds, refs })
}

/// A name that is a file's, too, and nobody else's.
fn read_name(table: &mut Section, names: &mut BTreeSet<String>, mistakes: &mut Mistakes) -> Option<String> {
    let expected = "1 to 64 characters of a-z 0-9 . _ -";
    let name: Option<TenantId> =
        table.needed("name", expected, "it names the hook in verdicts and metrics", mistakes);
    let name = name?.to_string();
    if !names.insert(name.clone()) {
        mistakes.add(&table.path_of("name"), "another name", &format!("{name:?} twice"), "");
    }
    Some(name)
}

fn read_url(table: &mut Section, mistakes: &mut Mistakes) -> Option<Endpoint> {
    let hint = "http:// is for loopback only; names and passwords have no place in it";
    table.parsed("url", "an https:// address", hint, mistakes)
}
