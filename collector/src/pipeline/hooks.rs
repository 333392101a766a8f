//! Hooks and webhooks as they were configured, with their secrets read and the certificates they are trusted by.

use super::{PipelineError, rules};
use crate::config::{HookWay, HttpSettings, Settings};
use crate::events::WebhookSettings;
use crate::gate::{GateMode, GateSettings, Hook, HookCall, WebhookCall};
use crate::outbound::{Poster, Secret};
use headwater_align::gate::RuleSet;
use std::path::{Path, PathBuf};

fn wrong(name: &str) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> PipelineError + use<> {
    let name = name.to_owned();
    move |source| PipelineError::Hook { name, source }
}

fn secret(name: &str, file: Option<&PathBuf>) -> Result<Option<Secret>, PipelineError> {
    file.map(|file| Secret::read(file)).transpose().map_err(|error| wrong(name)(error.into()))
}

fn poster(name: &str, ca_file: Option<&Path>) -> Result<Poster, PipelineError> {
    Poster::new(ca_file).map_err(|error| wrong(name)(error.into()))
}

/// Sets of rules from the texts of their files, fit for this mode of the gate.
///
/// # Errors
/// [`PipelineError`] names the file or the set that cannot be used.
pub(super) fn checked_rules(
    files: Vec<(&Path, String)>,
    mode: GateMode,
) -> Result<Vec<RuleSet>, PipelineError> {
    let read = |(file, text): (&Path, String)| {
        RuleSet::parse(&text).map_err(|source| PipelineError::Rules { path: file.to_owned(), source })
    };
    let rules = files.into_iter().map(read).collect::<Result<Vec<RuleSet>, _>>()?;
    let mut names: Vec<&str> = rules.iter().map(|set| set.name.as_str()).collect();
    names.sort_unstable();
    if let Some([name, _]) =
        names.windows(2).find_map(|two| <[&str; 2]>::try_from(two).ok().filter(|[a, b]| a == b))
    {
        return Err(PipelineError::RulesTwice { name: name.to_owned() });
    }
    if mode == GateMode::Inline
        && let Some(set) = rules.iter().find(|set| set.looks() > 0)
    {
        return Err(PipelineError::RulesNeedBranch { name: set.name.clone() });
    }
    Ok(rules)
}

/// How aligned rows are judged.
///
/// # Errors
/// [`PipelineError::Hook`] names the hook whose secret or certificates cannot be read; others the file of rules that cannot
/// be used.
pub fn gate_settings(settings: &Settings) -> Result<GateSettings, PipelineError> {
    let section = &settings.gate;
    let files =
        rules::read(&section.rules).map_err(|(path, source)| PipelineError::RulesFile { path, source })?;
    let rules = checked_rules(files, section.mode)?;
    let mut hooks = Vec::new();
    for hook in &section.hooks {
        let call = match &hook.way {
            HookWay::Command(words) => HookCall::Command(words.clone()),
            HookWay::Webhook(url, file) => HookCall::Webhook(Box::new(WebhookCall {
                url: url.clone(),
                secret: secret(&hook.name, file.as_ref())?,
                poster: poster(&hook.name, section.ca_file.as_deref())?,
            })),
        };
        let (name, recipes) = (hook.name.clone(), hook.recipes.clone());
        hooks.push(Hook { name, recipes, timeout_ms: hook.timeout_s.saturating_mul(1_000), call });
    }
    let url = |http: &HttpSettings| {
        let scheme = if http.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", http.listen)
    };
    let served = settings.http.as_ref().map(url);
    Ok(GateSettings {
        mode: section.mode,
        keep: section.keep,
        limits: section.limits,
        rules,
        hooks,
        rest_url: section.rest_url.clone().or(served),
        newer: None,
    })
}

/// Who is told of commits.
///
/// # Errors
/// As [`gate_settings`].
pub fn webhook_settings(settings: &Settings) -> Result<Vec<WebhookSettings>, PipelineError> {
    let section = &settings.event;
    let each = section.webhooks.iter().map(|hook| {
        Ok(WebhookSettings {
            name: hook.name.clone(),
            url: hook.url.clone(),
            secret: secret(&hook.name, hook.secret_file.as_ref())?,
            kinds: hook.kinds.clone(),
            refs: hook.refs.clone(),
            poster: poster(&hook.name, section.ca_file.as_deref())?,
        })
    });
    each.collect()
}
