//! Which network interface leads to a broker: the one whose address the kernel would send from.

use std::net::{IpAddr, SocketAddr, UdpSocket};

/// The interface towards `broker`, if the kernel knows a route. Sends nothing.
pub(super) fn towards(broker: SocketAddr) -> Option<String> {
    let any: SocketAddr = if broker.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().ok()?;
    let socket = UdpSocket::bind(any).ok()?;
    // Connecting a datagram socket only asks the routing table.
    socket.connect(broker).ok()?;
    of_address(socket.local_addr().ok()?.ip())
}

fn of_address(address: IpAddr) -> Option<String> {
    let interfaces = if_addrs::get_if_addrs().ok()?;
    interfaces.into_iter().find(|interface| interface.ip() == address).map(|interface| interface.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_leads_to_itself_and_nothing_leads_nowhere() {
        assert_eq!(towards("127.0.0.1:1883".parse().unwrap()).as_deref(), Some("lo"));
        // 192.0.2.0/24 is nobody's address; a route to it may exist, an interface that holds it does not.
        assert_eq!(of_address("192.0.2.7".parse().unwrap()), None);
    }
}
