//! What a broker's reason codes mean for us. MQTT 5 sections 3.2.2.2, 3.9.3 and 3.14.2.1; 3.1.1 section 3.2.2.3.

use crate::packet::Version;
use headwater_core::ports::{Cause, LinkClosed};

/// Judges a CONNACK that is no success.
pub(crate) fn refused(version: Version, code: u8) -> LinkClosed {
    let code = match (version, code) {
        // A broker that knows 5 not at all answers in the form and codes of 3.1.1.
        (_, 0x01) => 0x84,
        (_, 0x02) => 0x85,
        (_, 0x03) => 0x88,
        (_, 0x04) => 0x86,
        (_, 0x05) => 0x87,
        (_, code) => code,
    };
    let (cause, what) = match code {
        0x84 => (Cause::ProtocolRefused, "it does not speak this version of MQTT"),
        0x85 => (Cause::NotAuthorized, "it does not take our client id; see its rules for client ids"),
        0x86 => (Cause::NotAuthorized, "it does not take our user name or password"),
        0x87 => {
            (Cause::NotAuthorized, "we are not authorised; see its access rules and the certificate's name")
        }
        0x8a => (Cause::NotAuthorized, "we are banned"),
        0x8c => (Cause::NotAuthorized, "it wants another way to authenticate than a certificate"),
        0x88 => (Cause::BrokerAway, "it is unavailable"),
        0x89 => (Cause::Busy, "it is busy"),
        0x97 => (Cause::Busy, "a quota is used up"),
        0x9f => (Cause::Busy, "too many connections at once"),
        0x9c => (Cause::UseAnother, "use another server for now; name another in the configuration"),
        0x9d => (Cause::UseAnother, "it has moved; name another in the configuration"),
        0x95 => (Cause::TooLarge, "CONNECT is above its limit"),
        0x90 => (Cause::NotAuthorized, "it does not take the topic of our will; see its access rules"),
        0x9a => (Cause::Transient, "it keeps no retained messages"),
        _ => (Cause::Transient, "no reason we know"),
    };
    LinkClosed::because(cause, format!("the broker refuses the connection: {what} (0x{code:02x})"))
}

/// Judges a DISCONNECT of MQTT 5; `words` are the broker's own.
pub(crate) fn disconnected(code: u8, words: &str) -> LinkClosed {
    let (cause, what) = match code {
        0x00 => (Cause::BrokerAway, "without a reason"),
        0x87 => (Cause::NotAuthorized, "we are not authorised; see its access rules"),
        0x89 => (Cause::Busy, "it is busy"),
        0x8b => (Cause::BrokerAway, "it shuts down"),
        0x8d => (Cause::Transient, "it heard nothing for 1.5 keepalives"),
        0x8e => (Cause::TakenOver, "another client has our identity; is a second gateway running with it?"),
        0x93 => (Cause::Transient, "more messages under way than it allows"),
        0x95 => (Cause::TooLarge, "a message is above its limit"),
        0x96 => (Cause::Busy, "our message rate is too high"),
        0x97 => (Cause::Busy, "a quota is used up"),
        0x98 => (Cause::Busy, "by an act of its administrator"),
        0x9a => (Cause::Transient, "it keeps no retained messages"),
        0x9c => (Cause::UseAnother, "use another server for now; name another in the configuration"),
        0x9d => (Cause::UseAnother, "it has moved; name another in the configuration"),
        0x9f => (Cause::Busy, "too many connections at once"),
        0xa0 => (Cause::Transient, "the time of this connection is over"),
        _ => (Cause::Transient, "for another reason"),
    };
    let words = if words.is_empty() { String::new() } else { format!(": {}", shown(words)) };
    LinkClosed::because(cause, format!("the broker closed the connection: {what} (0x{code:02x}){words}"))
}

/// Judges a refused subscription: who may not read what it needs would wait for ever on a link that looks sound.
pub(crate) fn no_subscription(filter: &str, code: u8) -> LinkClosed {
    let (cause, what) = match code {
        0x97 => (Cause::Busy, "a quota is used up"),
        0x9e => (Cause::NotAuthorized, "it has no shared subscriptions"),
        _ => (Cause::NotAuthorized, "let this client read it in the broker's access rules"),
    };
    let reason = format!("the broker refuses the subscription of {filter} (0x{code:02x}): {what}");
    LinkClosed::because(cause, reason)
}

/// A broker's words in a log line: short and without control characters.
fn shown(words: &str) -> String {
    words.chars().filter(|c| !c.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_of_connack_leads_to_its_rule() {
        for (code, cause) in [
            (0x01, Cause::ProtocolRefused),
            (0x84, Cause::ProtocolRefused),
            (0x02, Cause::NotAuthorized),
            (0x85, Cause::NotAuthorized),
            (0x03, Cause::BrokerAway),
            (0x88, Cause::BrokerAway),
            (0x04, Cause::NotAuthorized),
            (0x86, Cause::NotAuthorized),
            (0x05, Cause::NotAuthorized),
            (0x87, Cause::NotAuthorized),
            (0x8a, Cause::NotAuthorized),
            (0x89, Cause::Busy),
            (0x97, Cause::Busy),
            (0x9f, Cause::Busy),
            (0x9c, Cause::UseAnother),
            (0x9d, Cause::UseAnother),
            (0x95, Cause::TooLarge),
            (0x80, Cause::Transient),
            (0xff, Cause::Transient),
        ] {
            for version in [Version::V5, Version::V311] {
                assert_eq!(refused(version, code).cause, cause, "0x{code:02x}");
            }
        }
    }

    #[test]
    fn each_code_of_disconnect_leads_to_its_rule() {
        for (code, cause) in [
            (0x00, Cause::BrokerAway),
            (0x87, Cause::NotAuthorized),
            (0x89, Cause::Busy),
            (0x8b, Cause::BrokerAway),
            (0x8e, Cause::TakenOver),
            (0x95, Cause::TooLarge),
            (0x96, Cause::Busy),
            (0x97, Cause::Busy),
            (0x9c, Cause::UseAnother),
            (0x9d, Cause::UseAnother),
            (0x9f, Cause::Busy),
            (0x80, Cause::Transient),
        ] {
            let closed = disconnected(code, "see\nthe log");
            assert_eq!(closed.cause, cause, "0x{code:02x}");
            assert!(closed.reason.ends_with("seethe log"), "{closed}");
        }
    }
}
