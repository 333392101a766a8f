//! `[uplink]`: brokers, profile, and the way to them.

use super::check::Readable;
use super::mistake::{Mistake, Mistakes};
use super::raw::{RawUplink, shown};
use super::settings::UplinkSettings;
use super::value;
use crate::ship::mqtt::{ALPN_BYTES_MAX, BrokerUrl, Profile, ProfileLimits, Proxy, Version, Versions};
use headwater_core::wire::MESSAGE_BYTES_SENT_MAX;
use std::path::Path;

/// A hello with many streams and a declaration must pass.
const MESSAGE_BYTES_MIN: usize = 8 * 1024;
/// More is memory without use: a window is filled long before.
const WINDOW_BYTES_MAX: usize = 64 << 20;
/// Below the queue in front of a connection.
const INFLIGHT_MAX: i64 = 60;
/// A list longer than this is a mistake, and the time to try them all an hour.
const BROKERS_MAX: usize = 16;
/// Longest name of a network interface (IFNAMSIZ, with its end).
const INTERFACE_BYTES_MAX: usize = 15;

const BROKER: &str = "an address such as mqtts://collector.example:8883";

pub(super) fn uplink(
    raw: &RawUplink,
    folder: &Path,
    readable: Readable<'_>,
    mistakes: &mut Mistakes,
) -> Option<UplinkSettings> {
    let brokers = brokers(raw, mistakes);
    let profiles = [
        ("default", Profile::Default),
        ("aws", Profile::Aws),
        ("azure", Profile::Azure),
        ("slow", Profile::Slow),
    ];
    let profile =
        value::word(raw.profile.as_deref(), &profiles, Some(Profile::Default), "uplink.profile", mistakes);
    let limits = limits(raw, profile.unwrap_or_default().limits(), mistakes);
    let versions = [
        ("auto", Versions::Auto),
        ("5", Versions::Only(Version::V5)),
        ("3.1.1", Versions::Only(Version::V311)),
    ];
    let versions = value::word(raw.mqtt.as_deref(), &versions, Some(Versions::Auto), "uplink.mqtt", mistakes);
    let alpn = name(raw.alpn.as_deref(), "uplink.alpn", "a name such as mqtt", ALPN_BYTES_MAX, mistakes);
    let interface = name(
        raw.interface.as_deref(),
        "uplink.interface",
        "a network interface such as wwan0",
        INTERFACE_BYTES_MAX,
        mistakes,
    );
    let proxy = proxy(raw, mistakes);
    let proxy_credentials = raw.proxy_credentials.as_deref().map(|file| folder.join(file));
    if let Some(file) = &proxy_credentials {
        let path = "uplink.proxy_credentials";
        if let Err(error) = readable(file) {
            let mistake = Mistake::new(path, "a readable file", format!("{}: {error}", file.display()));
            mistakes.push(mistake.hint("it holds one line, user:password"));
        }
        if raw.proxy.is_none() {
            mistakes.push(Mistake::new("uplink.proxy", "the proxy these credentials are for", "nothing"));
        } else if proxy.iter().flatten().any(|proxy| proxy.credentials.is_some()) {
            let found = "credentials in uplink.proxy too";
            mistakes.push(Mistake::new(path, "credentials in one place", found).hint("keep the file"));
        }
    }
    Some(UplinkSettings {
        brokers: brokers?,
        versions: versions?,
        limits: profile.and(limits)?,
        alpn: alpn?,
        proxy: proxy?,
        proxy_credentials,
        interface: interface?,
    })
}

fn brokers(raw: &RawUplink, mistakes: &mut Mistakes) -> Option<Vec<BrokerUrl>> {
    let (path, texts): (&str, Vec<&str>) = match (&raw.broker, &raw.brokers) {
        (Some(one), None) => ("uplink.broker", vec![one]),
        (None, Some(list)) => ("uplink.brokers", list.iter().map(String::as_str).collect()),
        (None, None) => {
            mistakes.push(Mistake::new("uplink.broker", BROKER, "nothing"));
            return None;
        }
        (Some(_), Some(_)) => {
            let mistake = Mistake::new("uplink.broker", "either broker or brokers", "both");
            mistakes.push(mistake.hint("put all of them into brokers"));
            return None;
        }
    };
    if texts.is_empty() || texts.len() > BROKERS_MAX {
        let expected = format!("1 to {BROKERS_MAX} addresses");
        mistakes.push(Mistake::new(path, expected, texts.len().to_string()));
        return None;
    }
    let mut brokers: Vec<BrokerUrl> = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        let path = if raw.broker.is_some() { path.to_owned() } else { format!("{path}[{at}]") };
        match text.parse() {
            Ok(broker) if brokers.contains(&broker) => {
                mistakes.push(Mistake::new(path, "each broker once", format!("{text:?} again")));
            }
            Ok(broker) => brokers.push(broker),
            Err(error) => {
                let error: crate::ship::mqtt::BrokerUrlError = error;
                mistakes.push(Mistake::new(path, BROKER, format!("{text:?}")).hint(error.to_string()));
            }
        }
    }
    (brokers.len() == texts.len()).then_some(brokers)
}

fn limits(raw: &RawUplink, profile: ProfileLimits, mistakes: &mut Mistakes) -> Option<ProfileLimits> {
    let message_bytes_max = size(
        raw.message_bytes_max.as_ref(),
        (profile.message_bytes_max, MESSAGE_BYTES_MIN, MESSAGE_BYTES_SENT_MAX),
        "uplink.message_bytes_max",
        "a size from 8KiB to 96KiB",
        mistakes,
    );
    let window_bytes_max = size(
        raw.window_bytes_max.as_ref(),
        (profile.window_bytes_max, message_bytes_max.unwrap_or(MESSAGE_BYTES_MIN), WINDOW_BYTES_MAX),
        "uplink.window_bytes_max",
        "a size from one message (uplink.message_bytes_max) to 64MiB",
        mistakes,
    );
    let inflight = i64::from(profile.inflight_max);
    let inflight_max =
        value::number(raw.inflight_max, inflight, 1..=INFLIGHT_MAX, "uplink.inflight_max", mistakes);
    let keepalive = i64::from(profile.keepalive_s);
    let keepalive_s = value::number(raw.keepalive_s, keepalive, 5..=3_600, "uplink.keepalive_s", mistakes);
    Some(ProfileLimits {
        message_bytes_max: message_bytes_max?,
        window_bytes_max: window_bytes_max?,
        inflight_max: inflight_max?,
        keepalive_s: keepalive_s?,
        ..profile
    })
}

/// A size of `least..=most` bytes.
fn size(
    found: Option<&toml::Value>,
    (default, least, most): (usize, usize, usize),
    path: &str,
    expected: &str,
    mistakes: &mut Mistakes,
) -> Option<usize> {
    let Some(found) = found else { return Some(default.max(least)) };
    let bytes = value::bytes(found).and_then(|bytes| usize::try_from(bytes).ok());
    let bytes = bytes.filter(|bytes| (least..=most).contains(bytes));
    if bytes.is_none() {
        mistakes.push(Mistake::new(path, expected, shown(found)));
    }
    bytes
}

/// A short name, if there is one.
fn name(
    found: Option<&str>,
    path: &str,
    expected: &str,
    bytes_max: usize,
    mistakes: &mut Mistakes,
) -> Option<Option<String>> {
    let Some(found) = found else { return Some(None) };
    let good = !found.is_empty() && found.len() <= bytes_max && found.chars().all(|c| c.is_ascii_graphic());
    if !good {
        mistakes.push(Mistake::new(path, expected, format!("{found:?}")));
    }
    good.then(|| Some(found.to_owned()))
}

/// A proxy, if there is one. Its text may hold a password, so it is not repeated.
fn proxy(raw: &RawUplink, mistakes: &mut Mistakes) -> Option<Option<Proxy>> {
    let Some(text) = &raw.proxy else { return Some(None) };
    match text.parse() {
        Ok(proxy) => Some(Some(proxy)),
        Err(error) => {
            let error: crate::ship::mqtt::ProxyError = error;
            let expected = "an address such as http://proxy.example:3128";
            mistakes.push(Mistake::new("uplink.proxy", expected, "another form").hint(error.to_string()));
            None
        }
    }
}
