//! `check --online`: the way to each broker, hop by hop.

use super::{log_to_stderr, runtime, say};
use crate::clock::BootClock;
use crate::config::{Settings, identity};
use crate::pipeline;
use crate::ship::mqtt::probe::probe;
use anyhow::Result;
use headwater_core::ports::Clock;

/// Goes to each broker; true if all the way to each.
pub(super) fn check(settings: &Settings, json: bool) -> Result<bool> {
    let identity = identity::load(&settings.identity, &settings.device, BootClock.read().real)
        .map_err(|errors| anyhow::anyhow!(pipeline::told(&errors)))?;
    let mqtt = pipeline::mqtt_settings(settings, &identity).map_err(anyhow::Error::msg)?;
    log_to_stderr("error")?;
    let runtime = runtime()?;
    let mut good = true;
    for broker in &mqtt.brokers {
        let found = runtime.block_on(probe(&mqtt, broker, &settings.device, &BootClock));
        good &= found.ok;
        if json {
            say(serde_json::to_string(&found)?)?;
            continue;
        }
        say(format_args!("{}", found.broker))?;
        for step in &found.steps {
            let mark = if step.ok { " " } else { "!" };
            say(format_args!("{mark} {:<13}{}", step.hop.to_string(), step.found))?;
        }
    }
    // A name server that does not answer holds a thread for longer than we wait for it.
    runtime.shutdown_background();
    Ok(good)
}
