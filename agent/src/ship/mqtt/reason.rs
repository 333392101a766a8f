//! What the broker's reason codes mean for us: try soon, or wait for minutes.

use headwater_core::ports::LinkClosed;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, DisconnectReasonCode, PubAckReason};
use rumqttc::v5::{ConnectionError, StateError};

/// Judges the end of a connection.
pub(super) fn closed(error: &ConnectionError) -> LinkClosed {
    let (reason, transient) = match error {
        ConnectionError::ConnectionRefused(code) => refused(*code),
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => {
            let words = reason_string.clone().unwrap_or_default();
            disconnected(*reason_code, &words)
        }
        ConnectionError::Tls(error) => {
            (format!("TLS failed, check certificates and the clock: {error}"), true)
        }
        error => (error.to_string(), true),
    };
    LinkClosed { reason, transient }
}

fn refused(code: ConnectReturnCode) -> (String, bool) {
    use ConnectReturnCode as Code;
    match code {
        Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion => {
            ("the broker refuses MQTT 5, and 3.1.1 is not built in yet".to_owned(), false)
        }
        Code::BadUserNamePassword | Code::NotAuthorized | Code::Banned | Code::BadAuthenticationMethod => {
            (format!("the broker refuses our credentials: {code:?}"), false)
        }
        Code::ClientIdentifierNotValid | Code::BadClientId => {
            (format!("the broker refuses our client id: {code:?}"), false)
        }
        Code::ServerBusy | Code::ServerUnavailable | Code::QuotaExceeded | Code::ConnectionRateExceeded => {
            (format!("the broker is overloaded: {code:?}"), false)
        }
        Code::UseAnotherServer | Code::ServerMoved => {
            (format!("the broker says to use another one: {code:?}; check uplink.broker"), false)
        }
        code => (format!("the broker refuses the connection: {code:?}"), true),
    }
}

fn disconnected(code: DisconnectReasonCode, words: &str) -> (String, bool) {
    use DisconnectReasonCode as Code;
    let lasting = matches!(
        code,
        Code::NotAuthorized
            | Code::ServerBusy
            | Code::SessionTakenOver
            | Code::MessageRateTooHigh
            | Code::QuotaExceeded
            | Code::UseAnotherServer
            | Code::ServerMoved
            | Code::ConnectionRateExceeded
    );
    let hint = match code {
        Code::SessionTakenOver => "; is another gateway running with this identity?",
        _ => "",
    };
    (format!("the broker closed the connection: {code:?} {words}{hint}"), !lasting)
}

/// `None` if the broker took the message. A failed PUBACK is never counted as delivered: the link is
/// given up, and what was on it goes again.
pub(super) fn puback(reason: PubAckReason) -> Option<LinkClosed> {
    let transient = match reason {
        // Nobody listens just now; the message is lost there, and resent for want of an ack.
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => return None,
        PubAckReason::NotAuthorized | PubAckReason::QuotaExceeded | PubAckReason::TopicNameInvalid => false,
        _ => true,
    };
    Some(LinkClosed { reason: format!("the broker refused a message: {reason:?}"), transient })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn puback_error_codes() {
        assert_eq!(puback(PubAckReason::Success), None);
        assert_eq!(puback(PubAckReason::NoMatchingSubscribers), None);
        assert!(puback(PubAckReason::QuotaExceeded).is_some_and(|closed| !closed.transient));
        assert!(puback(PubAckReason::NotAuthorized).is_some_and(|closed| !closed.transient));
        assert!(puback(PubAckReason::UnspecifiedError).is_some_and(|closed| closed.transient));
    }

    #[test]
    fn fights_and_false_credentials_wait_for_minutes() {
        let state = |reason_code| {
            closed(&ConnectionError::MqttState(StateError::ServerDisconnect {
                reason_code,
                reason_string: None,
            }))
        };
        assert!(!state(DisconnectReasonCode::SessionTakenOver).transient);
        assert!(state(DisconnectReasonCode::ServerShuttingDown).transient);
        let refused =
            closed(&ConnectionError::ConnectionRefused(ConnectReturnCode::UnsupportedProtocolVersion));
        assert!(!refused.transient && refused.reason.contains("3.1.1"));
    }
}
