//! `[[link]]`: what links over an interface may cost.

use super::mistake::{Mistake, Mistakes};
use super::raw::{RawLink, shown};
use super::value;
use crate::ship::policy::{BURST_BYTES_MIN, Budget, Hours, LinkRules, Permit};
use toml::Value;

/// Slowest rate and smallest budget that can be meant.
const RATE_BYTES_MIN: u64 = 1_000;
const BUDGET_BYTES_MIN: u64 = 100_000;

/// Reads every link; `None` only with mistakes. `metered` is what the whole uplink says.
pub(super) fn links(raw: &[RawLink], metered: bool, mistakes: &mut Mistakes) -> Option<Vec<LinkRules>> {
    let read: Vec<Option<LinkRules>> = raw
        .iter()
        .enumerate()
        .map(|(at, raw)| link(raw, &format!("link[{at}]"), metered, mistakes))
        .collect();
    let mut links = read.into_iter().collect::<Option<Vec<_>>>()?;
    for (at, link) in links.iter().enumerate() {
        let before = links.iter().take(at).any(|other| other.interface == link.interface);
        if before {
            let found = format!("{:?} twice", link.interface);
            mistakes.push(Mistake::new(format!("link[{at}].interface"), "each interface once", found));
            return None;
        }
    }
    if metered && !links.iter().any(|link| link.interface == "*") {
        links.push(LinkRules { metered, ..LinkRules::free() });
    }
    Some(links)
}

fn link(raw: &RawLink, path: &str, metered: bool, mistakes: &mut Mistakes) -> Option<LinkRules> {
    let interface = interface(raw.interface.as_deref(), &format!("{path}.interface"), mistakes);
    let rate = rate(raw.rate.as_ref(), &format!("{path}.rate"), mistakes);
    let burst = (BURST_BYTES_MIN, BURST_BYTES_MIN, "a size of at least 256KiB");
    let burst_bytes = value::size(raw.burst.as_ref(), burst, &format!("{path}.burst"), mistakes);
    let mut budget = |value: Option<&Value>, key: &str| {
        let bounds = (u64::MAX, BUDGET_BYTES_MIN, "a size of at least 100kB");
        let bytes = value::size(value, bounds, &format!("{path}.{key}"), mistakes)?;
        Some((bytes < u64::MAX).then_some(bytes))
    };
    let (day_bytes, month_bytes) = (budget(raw.day.as_ref(), "day"), budget(raw.month.as_ref(), "month"));
    let month_day = value::number(raw.month_day, 1, 1..=28, &format!("{path}.month_day"), mistakes);
    let reserve = format!("{path}.reserve_percent");
    let reserve_percent = value::number(raw.reserve_percent, 10, 0..=90, &reserve, mistakes);
    let media = permit(raw.media.as_ref(), &format!("{path}.media"), mistakes);
    let backlog = permit(raw.backlog.as_ref(), &format!("{path}.backlog"), mistakes);
    Some(LinkRules {
        interface: interface?,
        metered: raw.metered.unwrap_or(metered),
        rate_bytes_per_s: rate?,
        burst_bytes: burst_bytes?,
        budget: Budget {
            day_bytes: day_bytes?,
            month_bytes: month_bytes?,
            month_day: month_day?,
            reserve_percent: reserve_percent?,
        },
        media: media?,
        backlog: backlog?,
    })
}

fn interface(value: Option<&str>, path: &str, mistakes: &mut Mistakes) -> Option<String> {
    let expected = "an interface such as \"wwan0\", its beginning as in \"wwan*\", or \"*\" for any";
    let fits = |name: &str| {
        let name = name.strip_suffix('*').unwrap_or(name);
        name.len() < 16 && !name.contains(['*', '/', ' '])
    };
    match value {
        Some(name) if !name.is_empty() && fits(name) => Some(name.to_owned()),
        other => {
            let found = other.map_or_else(|| "nothing".to_owned(), |name| format!("{name:?}"));
            mistakes.push(Mistake::new(path, expected, found).hint("`ip -br link` lists them"));
            None
        }
    }
}

/// `200kB/s`; `Some(None)` if nothing is said.
fn rate(value: Option<&Value>, path: &str, mistakes: &mut Mistakes) -> Option<Option<u64>> {
    let Some(value) = value else { return Some(None) };
    let per_second = match value {
        Value::String(text) => text
            .trim()
            .strip_suffix("/s")
            .and_then(|size| value::bytes(&Value::String(size.trim_end().into()))),
        _ => None,
    };
    match per_second.filter(|rate| *rate >= RATE_BYTES_MIN) {
        Some(rate) => Some(Some(rate)),
        None => {
            let mistake = Mistake::new(path, "a rate of at least 1kB/s", shown(value));
            mistakes.push(mistake.hint("write it with its unit, such as \"200kB/s\""));
            None
        }
    }
}

/// `always`, `never`, `22:00-06:00`, or a list of hours.
fn permit(value: Option<&Value>, path: &str, mistakes: &mut Mistakes) -> Option<Permit> {
    let read = match value {
        None => return Some(Permit::Always),
        Some(Value::String(word)) if word == "always" => return Some(Permit::Always),
        Some(Value::String(word)) if word == "never" => return Some(Permit::Never),
        Some(Value::String(hours)) => hours.parse::<Hours>().ok().map(|hours| vec![hours]),
        Some(Value::Array(list)) if !list.is_empty() => {
            list.iter().map(|hours| hours.as_str()?.parse::<Hours>().ok()).collect()
        }
        Some(_) => None,
    };
    if read.is_none() {
        let found = value.map_or_else(String::new, shown);
        let mistake = Mistake::new(path, "\"always\", \"never\" or hours in UTC", found);
        mistakes.push(mistake.hint("write hours as \"22:00-06:00\", or a list of such"));
    }
    read.map(Permit::In)
}
