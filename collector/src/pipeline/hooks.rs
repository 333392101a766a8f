//! Hooks and webhooks as they were configured, with their secrets read and the certificates they are trusted by.

use super::PipelineError;
use crate::config::{HookWay, HttpSettings, Settings};
use crate::events::WebhookSettings;
use crate::gate::{GateSettings, Hook, HookCall, WebhookCall};
use crate::outbound::{Poster, Secret};
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

/// How aligned rows are judged.
///
/// # Errors
/// [`PipelineError::Hook`] names the hook whose secret or certificates cannot be read.
pub fn gate_settings(settings: &Settings) -> Result<GateSettings, PipelineError> {
    let section = &settings.gate;
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
        hooks,
        rest_url: section.rest_url.clone().or(served),
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
