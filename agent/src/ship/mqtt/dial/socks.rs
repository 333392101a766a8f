//! SOCKS5 (RFC 1928) with user and password (RFC 1929); only CONNECT, and names go to the proxy as they are.

use super::Stream;
use super::proxy::{Credentials, Refusal};
use headwater_core::ports::Cause;
use std::net::IpAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const VERSION: u8 = 5;
const NO_CREDENTIALS: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;

pub(super) async fn connect(
    stream: &mut Box<dyn Stream>,
    host: &str,
    port: u16,
    credentials: Option<&Credentials>,
) -> Result<(), Refusal> {
    let offered: &[u8] = match credentials {
        Some(_) => &[VERSION, 2, NO_CREDENTIALS, USER_AND_PASSWORD],
        None => &[VERSION, 1, NO_CREDENTIALS],
    };
    say(stream, offered).await?;
    let [version, method] = hear(stream).await?;
    if version != VERSION {
        return Err(Refusal::new(Cause::Transient, "it speaks no SOCKS5"));
    }
    match (method, credentials) {
        (NO_CREDENTIALS, _) => {}
        (USER_AND_PASSWORD, Some(credentials)) => log_in(stream, credentials).await?,
        _ => {
            let reason = "it wants credentials we do not have: see uplink.proxy_credentials";
            return Err(Refusal::new(Cause::NotAuthorized, reason));
        }
    }
    let mut request = vec![VERSION, 1, 0];
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => {
            request.push(1);
            request.extend(v4.octets());
        }
        Ok(IpAddr::V6(v6)) => {
            request.push(4);
            request.extend(v6.octets());
        }
        Err(_) => {
            let len =
                u8::try_from(host.len()).map_err(|_| Refusal::new(Cause::Transient, "host name too long"))?;
            request.extend([3, len]);
            request.extend(host.bytes());
        }
    }
    request.extend(port.to_be_bytes());
    say(stream, &request).await?;
    let [version, reply, _, kind] = hear(stream).await?;
    if version != VERSION || reply != 0 {
        return Err(refusal(reply));
    }
    // The address it went out from, of no use to us.
    let len = match kind {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await?),
        _ => return Err(Refusal::new(Cause::Transient, "it answers in another form")),
    };
    let mut bound = vec![0; len.saturating_add(2)];
    stream.read_exact(&mut bound).await?;
    Ok(())
}

async fn log_in(stream: &mut Box<dyn Stream>, credentials: &Credentials) -> Result<(), Refusal> {
    let mut request = vec![1];
    for text in [&credentials.user, &credentials.password] {
        request.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        request.extend(text.bytes().take(usize::from(u8::MAX)));
    }
    say(stream, &request).await?;
    let [_, status] = hear(stream).await?;
    match status {
        0 => Ok(()),
        _ => Err(Refusal::new(
            Cause::NotAuthorized,
            "it does not take our credentials: see uplink.proxy_credentials",
        )),
    }
}

fn refusal(reply: u8) -> Refusal {
    let (cause, reason) = match reply {
        2 => (Cause::NotAuthorized, "its rules do not let us reach the broker"),
        3 => (Cause::Transient, "it cannot reach the broker's network"),
        4 => (Cause::Transient, "it cannot reach the broker's host, or does not know its name"),
        5 => (Cause::BrokerAway, "the broker's host refuses the connection"),
        6 => (Cause::Transient, "the way to the broker is too long"),
        _ => (Cause::Transient, "it opens no tunnel"),
    };
    Refusal::new(cause, format!("{reason} (reply {reply})"))
}

async fn say(stream: &mut Box<dyn Stream>, bytes: &[u8]) -> Result<(), Refusal> {
    stream.write_all(bytes).await?;
    Ok(stream.flush().await?)
}

async fn hear<const N: usize>(stream: &mut Box<dyn Stream>) -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
